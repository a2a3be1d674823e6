"""What a person sees at the command line: exit codes, one box per error, nothing half-written."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from ccreid.config import list_methods
from ccreid.data.benchmarks.virtual import ARCHIVE
from ccreid.runs.jobs import hold
from tests.conftest import TINY


def verb(name: str, *arguments: str, cwd: Path, **environment: str) -> tuple[int, str]:
    process = subprocess.run(
        [sys.executable, "-m", f"ccreid.{name}", *arguments],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "160"} | environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    return process.returncode, process.stdout + process.stderr


def test_missing_data_is_one_screen(tmp_path):
    code, output = verb("train", "method=fire2", "data=prcc", cwd=tmp_path, CCREID_DATA="/nowhere")
    assert code == 2
    assert "Traceback" not in output
    for part in ("/nowhere/prcc", "17,896 images", "data.root=", "now /nowhere", "data=virtual"):
        assert part in output
    assert len(output.splitlines()) < 24


def test_a_misspelt_key(tmp_path):
    code, output = verb("train", "method=fire2", "data=virtual", "method.taus=1", cwd=tmp_path)
    assert code == 2
    assert "Did you mean 'method.tau'?" in output
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("name", ["export", "encode_text", "visualize", "verify"])
def test_a_verb_without_metrics_is_not_swept(name, tmp_path):
    code, output = verb(name, "-m", "data=virtual,prcc", cwd=tmp_path)
    assert code == 2
    assert f"ccreid.{name} leaves no metrics to sweep" in output
    assert "Traceback" not in output
    assert not list(tmp_path.iterdir())


def test_a_sweep_that_is_said_by_a_setting_is_refused_as_well(tmp_path):
    code, output = verb("export", "hydra.mode=MULTIRUN", "checkpoint=a.ckpt", cwd=tmp_path)
    assert code == 2
    assert "ccreid.export leaves no metrics to sweep" in output
    assert not list(tmp_path.iterdir())


def damaged_archive(path: Path, split: str) -> Path:
    """A small archive in which one split's images are cut short."""
    with zipfile.ZipFile(ARCHIVE) as whole, zipfile.ZipFile(path, "w") as damaged:
        names = [n for n in whole.namelist() if n.endswith(".jpg")]
        for part, pids in {"train": range(1, 5), "query": [65, 66], "gallery": [65, 66]}.items():
            for name in names:
                folder, file = name.split("/")[-2:]
                if folder == part and int(file[:4]) in pids:
                    content = whole.read(name)
                    damaged.writestr(name, content[:900] if part == split else content)
    return path


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("split", ["train", "query"])
def test_an_unreadable_image_is_named_without_a_traceback(tmp_path, split, workers):
    archive = damaged_archive(tmp_path / "damaged.zip", split)
    code, output = verb(
        "train",
        *TINY,
        "method=baseline",
        "debug=fast",
        "data.identities_per_batch=2",
        f"data.archive={archive}",
        f"data.workers={workers}",
        "data.check_files=false",
        cwd=tmp_path,
    )
    assert code == 2
    assert "Traceback" not in output
    assert f"virtual/{split}/" in output.replace("\n", "")
    assert "is not a whole image" in output
    assert ("ccreid.evaluate checkpoint=" in output) is (split == "query")
    if split == "query":  # training was not in vain
        (checkpoint,) = tmp_path.rglob("last.ckpt")
        assert checkpoint.stat().st_size > 0


def test_damaged_files_are_refused_before_the_first_epoch(tmp_path):
    archive = damaged_archive(tmp_path / "damaged.zip", "gallery")
    settings = ("data.identities_per_batch=2", f"data.archive={archive}")
    code, output = verb("train", *TINY, "method=baseline", "debug=fast", *settings, cwd=tmp_path)
    assert code == 2
    assert "is not a whole image" in output
    assert "23 more files are damaged" in output
    assert "Epoch" not in output


def test_a_used_folder_stays_as_it_is(tmp_path):
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / "metrics.json").write_text("{}")
    (run / ".hydra" / "overrides.yaml").write_text("- seed=7\n")
    code, output = verb(
        "train", "method=fire2", "data=virtual", f"hydra.run.dir={run}", cwd=tmp_path
    )
    assert code == 2
    assert "already holds a run" in output
    assert (run / ".hydra" / "overrides.yaml").read_text() == "- seed=7\n"
    assert sorted(p.name for p in run.iterdir()) == [".hydra", "metrics.json"]


def test_two_runs_at_once_in_one_folder(tmp_path):
    with hold(tmp_path) as free:
        assert free
        code, output = verb(
            "train",
            *TINY,
            "method=baseline",
            "debug=fast",
            f"hydra.run.dir={tmp_path}",
            cwd=tmp_path,
        )
    assert code == 2
    assert "Another run is writing into" in output
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    code, output = verb(
        "train", "method=fire2", "data=virtual", "hydra.run.dir=file/run", cwd=tmp_path
    )
    assert code == 2
    assert "Cannot write into" in output
    assert "Traceback" not in output


def test_evaluate_asks_for_a_checkpoint(tmp_path):
    code, output = verb("evaluate", cwd=tmp_path)
    assert code == 2
    assert "checkpoint=<run folder>" in output


def test_help_lists_the_choices(tmp_path):
    code, output = verb("train", "--help", cwd=tmp_path)
    assert code == 0
    assert f"method={' | '.join(list_methods())}" in output
    assert "+sweep=fire2_eps" in output
    assert "Traceback" not in output
    code, output = verb("verify", "--help", cwd=tmp_path)
    assert code == 0
    assert "data=ccvid | celeb_reid |" in output
    assert "method=" not in output


def test_cfg_job_shows_every_setting_or_the_mistake(tmp_path):
    code, output = verb("train", "method=fire2", "data=virtual", "--cfg", "job", cwd=tmp_path)
    assert code == 0
    assert "epsilon: 0.1" in output
    code, output = verb(
        "train", "method=fire2", "data=virtual", "method.eps=1", "--cfg", "job", cwd=tmp_path
    )
    assert code == 2
    assert "method.mining.eps" in output


def test_a_palette_image_and_other_modes_train(tmp_path):
    """Images of any mode are read as RGB; three people in two outfits are a benchmark."""
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for split, pids in {"train": [1, 2, 3], "query": [4], "gallery": [4]}.items():
            for pid in pids:
                for outfit in range(2):
                    for camera in range(2):
                        mode = ("RGB", "L", "P", "CMYK")[(pid + outfit + camera) % 4]
                        picture = Image.new("RGB", (16, 32), (60 * pid, 90 * outfit, 50)).convert(
                            mode
                        )
                        file = io.BytesIO()
                        picture.save(file, format="PNG" if mode == "P" else "JPEG")
                        name = f"mine/{split}/{pid:04d}_o{outfit}_c{camera:02d}_00.jpg"
                        archive.writestr(name, file.getvalue())
    code, output = verb(
        "train",
        *TINY,
        "method=fire2",
        "debug=fast",
        "data.identities_per_batch=2",
        "data.archive=mine.zip",
        cwd=tmp_path,
    )
    assert code == 0, output
