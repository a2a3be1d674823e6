"""Pictures of a run: drawn when they were asked for, of what was mined and of the right people."""

import numpy as np
import pytest
from PIL import Image

from ccreid.callbacks import pictures
from ccreid.callbacks.pictures import RunPictures
from ccreid.data.validation import HeldOut
from ccreid.errors import ConfigError
from ccreid.methods import fire2
from ccreid.train import train
from ccreid.viz import protocols
from ccreid.viz.clusters import most_clusters
from tests.miniature.small_virtual import write_small_virtual


@pytest.fixture
def spy(monkeypatch):
    """Return a function that lets calls of a module's function be recorded."""

    def watch(module, name):
        calls, original = [], getattr(module, name)

        def recorded(*arguments, **named):
            result = original(*arguments, **named)
            calls.append((arguments, named, result))
            return result

        monkeypatch.setattr(module, name, recorded)
        return calls

    return watch


def test_a_run_that_mines_shows_its_clusters_and_the_people_it_may_look_at(
    tiny_config, spy, tmp_path
):
    mined, drawn = spy(fire2, "mine_attributes"), spy(pictures, "draw_person")
    ranked = spy(pictures, "draw_protocols")
    settings = ("trainer.max_epochs=3", "method.mining.start_epoch=0", "data.validation=identities")
    asked = ("callbacks.pictures.every_n_epochs=2", "callbacks.pictures.people=2")
    small = write_small_virtual(tmp_path)
    result = train(tiny_config("method=fire2", "debug=fast", *small, *settings, *asked))
    folder = result.output_dir / "pictures"

    sheets = [folder / "epoch_002", folder]
    names = [{path.name for path in sheet.glob("*.png")} for sheet in sheets]
    assert names[0] == names[1] > {"ranked_general.png", "ranked_sc.png", "ranked_cc.png"}
    assert len(names[0]) == 5
    assert not (folder / "epoch_001").exists()
    assert not (folder / "epoch_003").exists()

    method = mined[0][0][0]
    data = method.datamodule
    pids = np.array([sample.pid for sample in data.train])
    labels = [call[2][0].cluster.numpy() for call in mined]
    people = most_clusters(labels[1], pids, 2)
    wanted = [(labels[1], people[0]), (labels[1], people[1])]
    wanted += [(labels[2], people[0]), (labels[2], people[1])]  # the same people at the end
    for (mining, pid), (arguments, _, sheet) in zip(wanted, drawn, strict=True):
        assert [sample.pid for sample in arguments[0]] == [pid] * int((pids == pid).sum())
        np.testing.assert_array_equal(arguments[1], mining[pids == pid])
        epoch = sheets[0] if mining is labels[1] else sheets[1]
        np.testing.assert_array_equal(Image.open(epoch / f"clusters_{pid}.png"), sheet)

    (_, seen, _), _ = ranked[0], ranked[1]
    assert [type(call[0][1]) for call in ranked] == [HeldOut, type(data.benchmark)]
    assert seen["licensor"] is data.benchmark  # held-out people keep its rule about faces


def test_a_run_that_mines_nothing_has_ranked_lists_alone_and_faces_can_be_hidden(
    tiny_config, spy, tmp_path
):
    drawn = spy(pictures, "draw_protocols")
    small = write_small_virtual(tmp_path)
    folder = train(tiny_config("method=baseline", "debug=fast", *small)).output_dir / "pictures"
    names = {path.name for path in folder.iterdir()}
    assert names == {"ranked_general.png", "ranked_sc.png", "ranked_cc.png"}

    results, benchmark, _ = drawn[0][0]
    shown = spy(protocols, "sample_picture")

    class Licensor:
        hide_faces = True

    how = {"protocols": benchmark.protocols[:1], "rows": 1, "places": 1}
    protocols.draw_protocols(results, benchmark, tmp_path / "a", **how, licensor=Licensor())
    protocols.draw_protocols(results, benchmark, tmp_path / "b", **how)
    assert [call[0][1].hide_faces for call in shown] == [True, True, False, False]
    for hidden, clear in zip(shown[:2], shown[2:], strict=True):
        was, now, quarter = np.asarray(clear[2]), np.asarray(hidden[2]), clear[2].height // 4
        assert (was[:quarter] != now[:quarter]).any()
        np.testing.assert_array_equal(was[quarter:], now[quarter:])


@pytest.mark.parametrize("name", ["every_n_epochs", "people"])
def test_impossible_wishes_are_named(name):
    with pytest.raises(ConfigError, match=rf"callbacks\.pictures\.{name}=-1"):
        RunPictures("pictures", **{name: -1})
