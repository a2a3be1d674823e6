import json
import re
import shutil

import pytest

from ccreid.config import compose
from ccreid.data.benchmarks.ltcc import LTCC
from ccreid.data.benchmarks.prcc import PRCC
from ccreid.errors import ConfigError
from ccreid.verify import verify
from tests.miniature.folder import PATTERNS, write_folder
from tests.miniature.ltcc import write_ltcc
from tests.miniature.pictures import write_picture
from tests.miniature.prcc import write_prcc
from tests.test_verbs import verb


@pytest.fixture
def root(tmp_path, monkeypatch):
    """PRCC and LTCC in miniature, with their own counts and without equal images."""
    for number, write in enumerate((write_prcc, write_ltcc)):
        images = [p for p in write(tmp_path / "data").rglob("*.[jp][pn]g") if p.name[0] != "."]
        for size, image in enumerate(sorted(images)):
            write_picture(image, number, size=(8 + size, 16))
    for kind in (PRCC, LTCC):
        monkeypatch.setattr(kind, "counts", {})
        monkeypatch.setattr(kind, "counts", kind(tmp_path / "data").found_counts())
    return tmp_path / "data"


@pytest.fixture
def run(root):
    def run(*overrides):
        settings = [f"manifest={root.parent / 'manifests'}", "workers=0", *overrides]
        return verify(compose("verify", settings))

    return run


@pytest.fixture
def found(run, root, capsys):
    """Return a function that gives the verdict and the JSON of `benchmarks=...`."""

    def found(benchmarks):
        right = run(f"benchmarks={benchmarks}", f"root={root}", "json=true")
        output = json.loads(capsys.readouterr().out)
        assert output["right"] is right
        return right, {one["name"]: one for one in output["benchmarks"]}

    return found


@pytest.mark.parametrize("width", [80, 120])
def test_a_report_that_fits_the_terminal(run, root, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    (root / "LTCC_ReID" / "query" / "003_1_c1_000100.png").write_text("no picture")
    assert not run("data=ltcc", f"data.root={root}")
    report = capsys.readouterr().out
    assert max(map(len, report.splitlines())) <= width
    text = re.sub(r"[\s│]+", " ", report)
    for part in (
        "ltcc: wrong",
        "LTCC_ReID/{train,query,test}/<pid>_<outfit>_c<camera>_<frame>.png",
        "├── query 3 images",
        "gallery 3 3 5 5 verified: ok",
        "11 of 12 images whole",
        "12 files beside the images passed over",
        "fault query/003_1_c1_000100.png: no image.",
        "Licence: academic use, by request to the authors",
        "Cite: Qian, Wang",
    ):
        assert part in text
    (cc,) = re.findall(r"cc: gallery images of the same person, same camera ?[^\n]* (\d) ", report)
    assert cc == "1"


def test_several_are_summed_up(run, root, capsys):
    assert run("benchmarks=[prcc,ltcc]", f"root={root}")
    summary = capsys.readouterr().out.split("summary")[1]
    assert re.findall(r"(\w+) +│ (\w+) +│ +(\d+) │ +0 │ +0 │", summary) == [
        ("prcc", "right", "36"),
        ("ltcc", "right", "12"),
    ]


def test_a_named_benchmark_must_be_there(found):
    right, results = found("[ltcc,nkup]")
    assert not right
    assert [one["status"] for one in results.values()] == ["right", "not found"]
    assert "nkup was not found" in results["nkup"]["faults"][0]


def test_all_are_the_published_ones_and_need_not_be_there(found, run, root, capsys):
    right, results = found("all")
    assert right
    here = {name for name, one in results.items() if one["status"] == "right"}
    assert here == {"prcc", "ltcc", "virtual"}
    assert {"celeb_reid", "ccvid", "vc_clothes"} <= results.keys() - here
    assert not {"folder", "csv"} & results.keys()
    shutil.rmtree(root / "prcc" / "rgb" / "test" / "A" / "003")
    assert not run("benchmarks=all", f"root={root}", "images=false")
    report = capsys.readouterr().out
    assert "│ nkup             │ not found │" in report
    assert "nkup was not found" not in report


def test_all_of_nothing_is_wrong(run, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert not run("benchmarks=all", f"root={empty}", "images=false")
    said = " ".join(capsys.readouterr().out.split())
    assert "Nothing was found in" in said
    assert "root=<folder>" in said
    assert not run("benchmarks=all", f"root={empty}", "images=false", "json=true")
    output = json.loads(capsys.readouterr().out)
    (fault,) = output["faults"]
    assert fault.startswith(f"Nothing was found in {empty}. Say where")
    assert {one["name"] for one in output["benchmarks"] if one["status"] == "right"} == {"virtual"}


def test_json_says_all_that_was_found(found, root):
    shutil.copy(root / "prcc/rgb/train/001/A_cropped_rgb10.jpg", root / "prcc/rgb/train/extra.jpg")
    shutil.copy(
        root / "prcc/rgb/train/001/A_cropped_rgb10.jpg",
        root / "prcc/rgb/test/A/003/cropped_rgb10.jpg",
    )
    right, results = found("prcc")
    assert not right
    prcc = results["prcc"]
    assert prcc["status"] == "wrong"
    assert prcc["counts"][0] == {
        "part": "train",
        "expected": {**prcc["counts"][0]["found"], "images": 18},
        "found": {**prcc["counts"][0]["found"], "identities": 3},
        "certainty": "verified",
        "verdict": "ok",
    }
    (duplicate,) = prcc["duplicates"]
    assert duplicate["kind"] == "train and test"
    assert prcc["tree"]["folders"][0]["name"] == "rgb"
    assert {p["name"]: p["unanswerable"] for p in prcc["protocols"]}["cc"] == 0
    assert prcc["root"] == str(root / "prcc")


def test_a_second_check_reads_what_changed(run, root):
    assert run("data=ltcc", f"data.root={root}")
    manifest = root.parent / "manifests" / "ltcc.manifest.tsv"
    before = manifest.read_text()
    assert run("data=ltcc", f"data.root={root}")
    assert manifest.read_text() == before
    write_picture(root / "LTCC_ReID" / "train" / "000_1_c1_000012.png", 99)
    assert run("data=ltcc", f"data.root={root}")
    (line,) = set(manifest.read_text().splitlines()) - set(before.splitlines())
    assert "train/000_1_c1_000012.png" in line


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "data=<one of: "),
        (["benchmarks=[ltc]"], "Did you mean 'ltcc'?"),
        (["benchmarks=ltc"], "Did you mean 'ltcc'?"),
        (["benchmarks=[ltcc,ltcc]"], "name each benchmark once"),
        (["benchmarks=[ltcc]", "data=prcc"], "not both"),
        (["data=ltcc", "workers=-1"], "workers=-1"),
        (["data=ltcc", "worker=1"], "Did you mean 'workers'?"),
        (["data=folder"], "data.root=<folder>"),
    ],
)
def test_a_users_mistake_is_explained(run, overrides, said):
    with pytest.raises(ConfigError) as error:
        run(*overrides)
    assert said in str(error.value)


def test_at_the_command_line_a_right_benchmark_is_0_and_json_is_all_of_stdout(tmp_path):
    images = write_folder(tmp_path / "images")
    for number, image in enumerate(p for p in sorted(images.rglob("*.jpg")) if p.name[0] != "."):
        write_picture(image, 0, size=(8 + number, 16))
    options = [f"data.benchmark.{key}='{value}'" for key, value in PATTERNS.items()]
    arguments = ("--json", "data=folder", f"data.root={images}", *options)
    code, output = verb("verify", *arguments, cwd=tmp_path)
    assert code == 0, output
    (one,) = json.loads(output)["benchmarks"]
    assert (one["status"], one["num_images"]) == ("right", 48)
    assert (tmp_path / "outputs/verify/folder.manifest.tsv").is_file()
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["verify"]


def test_at_the_command_line_a_fault_is_1(tmp_path):
    write_prcc(tmp_path)  # the counts are not the published ones
    code, output = verb("verify", "data=prcc", f"data.root={tmp_path}", cwd=tmp_path)
    assert code == 1
    assert "prcc train: expected 17896 images of 150 people, found 18 images of 3" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("arguments", [["data=pcc"], ["data=prcc", "-m"]])
def test_at_the_command_line_a_mistake_is_2(tmp_path, arguments):
    code, output = verb("verify", *arguments, cwd=tmp_path)
    assert code == 2
    assert "Traceback" not in output
