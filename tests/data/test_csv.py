import csv as standard
import itertools
import os
from pathlib import Path

import pytest

import ccreid.data.benchmarks.csv as ours
from ccreid.build import instantiate
from ccreid.config import compose
from ccreid.data.benchmarks.base import collect_faults
from ccreid.data.benchmarks.csv import CSV
from ccreid.data.datamodule import ReIDDataModule, unanswerable_queries
from ccreid.data.sample import ids, manifest
from ccreid.data.transforms import TestTransform, TrainTransform
from ccreid.errors import ConfigError, DataError
from ccreid.train import train
from tests.conftest import TINY
from tests.miniature.csv import COLUMNS, ROWS, write_csv
from tests.miniature.folder import IMAGES, write_people


def edit(file: Path, **changes: str) -> Path:
    """Replace in line <n> (`line3="a->b"`) a text by another."""
    lines = file.read_text().splitlines()
    for line, change in changes.items():
        old, new = change.split("->")
        number = int(line.removeprefix("line")) - 1
        assert old in lines[number]
        lines[number] = lines[number].replace(old, new)
    file.write_text("\n".join(lines) + "\n")
    return file


def lists(benchmark):
    return [manifest(samples) for samples in benchmark.splits.values()]


def test_the_standard_librarys_csv_stays_itself():
    assert ours.csv is standard
    assert hasattr(standard, "reader")


def test_reads_every_column(tmp_path):
    benchmark = CSV(write_csv(tmp_path))
    assert benchmark.warnings == ()
    expected = {row["path"]: row for row in ROWS}
    for split, samples in benchmark.splits.items():
        assert [s.path for s in samples] == sorted(s.path for s in samples)
        for sample in samples:
            row = expected.pop(os.path.relpath(sample.path, tmp_path))
            assert row["split"] == split
            assert (sample.pid, sample.camid) == (int(row["pid"]), int(row["camid"]))
    assert not expected
    assert [p.name for p in benchmark.protocols] == ["general", "sc", "cc"]
    assert unanswerable_queries(benchmark) == {"general": 0, "sc": 0, "cc": 0}


def test_the_same_clothes_id_of_two_people_is_two_outfits(tmp_path):
    benchmark = CSV(write_csv(tmp_path))
    worn = {(s.pid, s.clothes_id) for samples in benchmark.splits.values() for s in samples}
    assert len(worn) == len({outfit for _, outfit in worn}) == 12
    file = tmp_path / "global.csv"  # numbered over all people instead: the same outfits
    lines = [",".join(COLUMNS)]
    for row in ROWS:
        outfit = 1000 + 10 * int(row["pid"]) + int(row["clothes_id"])
        lines.append(",".join(str(v) for v in (row | {"clothes_id": outfit}).values()))
    file.write_text("\n".join(lines))
    assert lists(CSV(file)) == lists(benchmark)


@pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::17])
def test_columns_may_come_in_any_order(tmp_path, order):
    expected = lists(CSV(write_csv(tmp_path)))
    assert lists(CSV(write_csv(tmp_path, [COLUMNS[i] for i in order]))) == expected


@pytest.mark.parametrize(
    ("columns", "protocols"),
    [
        (("path", "pid", "split"), {"general": "none"}),
        (("path", "pid", "camid", "split"), {"general": "standard"}),
        (("path", "pid", "clothes_id", "split"), {"general": "none", "sc": "sc", "cc": "cc"}),
    ],
)
def test_protocols_follow_from_the_columns(tmp_path, columns, protocols):
    benchmark = CSV(write_csv(tmp_path, columns))
    assert {p.name: p.rule for p in benchmark.protocols} == protocols
    assert unanswerable_queries(benchmark) == dict.fromkeys(protocols, 0)


def test_columns_that_are_empty_throughout_are_unknown(tmp_path):
    expected = lists(CSV(write_csv(tmp_path, ("path", "pid"))))
    file = write_csv(tmp_path)
    lines = [line.split(",") for line in file.read_text().splitlines()]
    file.write_text("\n".join([",".join(lines[0]), *(f"{p},{pid},,," for p, pid, *_ in lines[1:])]))
    assert lists(CSV(file)) == expected


def test_labels_may_be_known_of_train_alone(tmp_path):
    file = write_csv(tmp_path)
    lines = [line.split(",") for line in file.read_text().splitlines()]
    for cells in lines:
        if cells[4] in ("query", "gallery"):
            cells[3] = ""
    file.write_text("\n".join(map(",".join, lines)))
    benchmark = CSV(file)
    assert [p.name for p in benchmark.protocols] == ["general"]
    assert len(set(ids(benchmark.train, "clothes_id"))) == 6


def test_without_a_split_column_the_rule_is_that_of_folders(tmp_path):
    benchmark = CSV(write_csv(tmp_path, COLUMNS[:-1]))
    assert set(ids(benchmark.train, "pid")) == {10, 12, 31}
    assert set(ids(benchmark.query, "pid")) == {11, 30, 32}
    assert {Path(s.path).stem[-1] for s in benchmark.query} == {"0"}  # first of each view
    assert len(benchmark.query) == 12
    assert "No split is given" in benchmark.warnings[0]


def test_byte_order_mark_quotes_blank_lines_and_line_ends_are_read(tmp_path):
    (person,) = [write_people(tmp_path, ["a, b"]) / "a, b"]
    rows = [f'"a, b/{image}", {n // 4 + 1} ,"{n % 2}"' for n, image in enumerate(IMAGES)]
    file = tmp_path / "own.csv"
    file.write_bytes("\r\n".join(["path , pid,camid", "", *rows, " "]).encode("utf-8-sig"))
    benchmark = CSV(file)
    assert {s.path for samples in benchmark.splits.values() for s in samples} == {
        str(person / image) for image in IMAGES
    }
    assert [s.camid for s in benchmark.train] == [0, 1, 0, 1]


def test_paths_are_relative_to_the_file_or_to_the_root(tmp_path, monkeypatch):
    file = write_csv(tmp_path / "pictures")
    expected = lists(CSV(file))
    moved = file.rename(tmp_path / "list.csv")
    with pytest.raises(DataError, match=r"line 2: .*10_0_0_0\.jpg is a path that does not exist"):
        CSV(moved)
    assert lists(CSV(moved, root=tmp_path / "pictures")) == expected
    monkeypatch.chdir(tmp_path)
    assert lists(CSV("list.csv", root="pictures")) == expected
    text = moved.read_text().replace("images/", f"{tmp_path}/pictures/images/")
    moved.write_text(text)
    assert lists(CSV(moved)) == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"line1": "path,->paht,"}, "line 1: unknown column 'paht'. Did you mean 'path'?"),
        ({"line1": "clothes_id->Clothes"}, "unknown column 'Clothes'. Did you mean 'clothes_id'?"),
        ({"line1": "camid->CAMID"}, "unknown column 'CAMID'. Did you mean 'camid'?"),
        ({"line1": "camid->pid"}, "line 1: there are two columns 'pid'"),
        ({"line4": ",10,->,ten,"}, "line 4: pid 'ten' should be a whole number, 0 or more"),
        ({"line4": ",10,->,-10,"}, "line 4: pid '-10' should be a whole number, 0 or more"),
        ({"line4": ",10,->,10.0,"}, "line 4: pid '10.0' should be a whole number"),
        ({"line4": ",10,->,,"}, "line 4: pid '' should be a whole number"),
        ({"line4": f",10,->,{'1' * 19},"}, "line 4: pid '1111111111111111111' should be"),
        ({"line5": "1,train->1.5,train"}, "line 5: clothes_id '1.5' should be a whole number"),
        ({"line6": ",1,0,train->,c1,0,train"}, "line 6: camid 'c1' should be a whole number"),
        ({"line7": "train->trian"}, "line 7: unknown split 'trian'. Did you mean 'train'? Choose"),
        ({"line7": "train->Train"}, "Did you mean 'train'?"),
        ({"line7": "train->test"}, "line 7: unknown split 'test'"),
        ({"line7": "train->"}, "line 7: no split, which 47 of 48 lines"),
        ({"line7": ",1,0,train->,,0,train"}, "line 7: no camid, which 23 of 24 lines"),
        ({"line9": "images/->imagse/"}, "line 9: "),
        ({"line9": "images/10_1_1_1.jpg->images"}, "images is a folder, not an image"),
        ({"line9": "images/10_1_1_1.jpg->"}, "line 9: the path is empty"),
        (
            {"line9": "images/10_1_1_1.jpg->./images/../images/10_0_0_0.jpg"},
            "images/10_0_0_0.jpg is in line 2 already",
        ),
        ({"line40": "images/->im,ages/"}, "line 40: 6 cells, but line 1 names 5 columns"),
        ({"line12": 'images/->"images/'}, "line 12: unexpected end of data"),
    ],
)
def test_a_mistake_names_file_line_and_remedy(tmp_path, change, said):
    file = edit(write_csv(tmp_path), **change)
    with pytest.raises(DataError) as error:
        CSV(file)
    text = str(error.value)
    assert said in text
    for part in (str(file), "line", "path,pid,camid,clothes_id,split", "data.root="):
        assert part in text
    assert len(text.splitlines()) < 12


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n  \n", "is empty"),
        (b"path,pid\n", "lists no image"),
        (b"path\na.jpg\n", "column pid is missing"),
        (b"camid,split\n1,train\n", "column path and pid is missing"),
        (b"path;pid;camid\na.jpg;1;2\n", "columns are separated by ';'"),
        ("path,pid\nä.jpg,1\n".encode("latin-1"), "is not UTF-8 text"),
        ("path,pid\na.jpg,1\n".encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_such_list_is_explained(tmp_path, content, said):
    file = tmp_path / "list.csv"
    file.write_bytes(content)
    with pytest.raises(DataError) as error:
        CSV(file)
    assert said in str(error.value)


def test_a_missing_file_is_named_with_the_nearest(tmp_path):
    write_csv(tmp_path)
    with pytest.raises(DataError, match=r"There is no file .*lst\.csv\. Did you mean 'list\.csv'"):
        CSV(tmp_path / "lst.csv")
    with pytest.raises(DataError, match="cannot be read"):
        CSV(tmp_path)
    with pytest.raises(ConfigError, match=r"data\.file=<file\.csv>"):
        CSV()


def test_an_empty_split_and_people_who_are_not_in_the_gallery_are_refused(tmp_path):
    file = write_csv(tmp_path)
    text = file.read_text()
    file.write_text(text.replace(",query", ",gallery"))
    with pytest.raises(DataError, match="the query split has no image"):
        CSV(file)
    lines = text.splitlines()
    kept = [s for s in lines if not (s.endswith("gallery") and s.split(",")[1] != "32")]
    kept = [s for s in kept if not (s.endswith("query") and s.split(",")[1] == "32")]
    file.write_text("\n".join(kept))
    with pytest.raises(DataError, match=r"query shows 30, 31; gallery shows 32\."):
        CSV(file)


def test_verify_is_told_all_faults(tmp_path):
    file = edit(
        write_csv(tmp_path),
        line1="clothes_id->clothing",
        line3="10,->x,",
        line4="train->trial",
        line9="images/->missing/",
        line11="images/11_0_0_1->images/11_0_0_0",
    )
    with collect_faults() as faults:
        benchmark = CSV(file)
    said = ["'clothing'", "line 3: pid 'x'", "line 4: unknown split", "line 9:", "line 11:"]
    assert len(faults) == len(said)
    for fault, part in zip(faults, said, strict=True):
        assert part in fault
    assert [len(samples) for samples in benchmark.splits.values()] == [20, 12, 12]


def test_methods_that_need_clothes_are_refused_without(tmp_path):
    transforms = TrainTransform(32, 16), TestTransform(32, 16)
    benchmark = CSV(write_csv(tmp_path, ("path", "pid", "camid", "split")))
    with pytest.raises(DataError, match="needs clothes labels and csv has train images without"):
        ReIDDataModule(benchmark, *transforms, 2, requires={"clothes"})
    data = ReIDDataModule(CSV(write_csv(tmp_path)), *transforms, 2, requires={"clothes"})
    assert (data.num_identities, data.num_clothes) == (3, 6)


def test_it_trains_and_evaluates_by_its_config(tmp_path):
    settings = [s for s in TINY if s != "data=virtual"]
    settings += ["method=baseline", "data=csv", "debug=fast", "data.identities_per_batch=2"]
    file = write_csv(tmp_path / "mine")
    settings += [f"data.file={file}", f"output_dir={tmp_path / 'run'}"]
    cfg = compose("train", settings)
    assert type(instantiate(cfg.data.benchmark)) is CSV
    metrics = train(cfg).metrics
    for protocol in ("general", "sc", "cc"):
        assert metrics[f"test/csv/{protocol}/num_valid_queries"] == 12
        assert 0 < metrics[f"test/csv/{protocol}/mAP"] <= 1
