"""What a run says on the terminal: one line an epoch, and what was evaluated below it."""

import re
import subprocess
import sys

import pytest

from ccreid.callbacks.progress import shortened
from tests.conftest import TINY
from tests.miniature.small_virtual import write_small_virtual

TERMS = {"id": "4.16", "triplet": "13.36", "attribute": "6.36", "recomposition": "1.18"}


@pytest.mark.parametrize("room", [80, 60, 43, 40])
def test_names_are_cut_until_the_line_fits(room):
    shown = shortened(TERMS, room)
    assert list(shown.values()) == list(TERMS.values())
    assert all(name.startswith(cut) for name, cut in zip(TERMS, shown, strict=True))
    text = " ".join(f"{name}: {value}" for name, value in shown.items())
    assert len(text) <= room
    letters = max(map(len, shown))
    if letters < max(map(len, TERMS)):  # one letter more would not have fitted
        longer = [f"{name[: letters + 1]}: {value}" for name, value in TERMS.items()]
        assert len(" ".join(longer)) > room


def test_names_stay_apart_and_nothing_is_lost_where_they_cannot_fit():
    terms = {"attention": "1.00", "attribute": "2.00", "loss": "3.00"}
    assert list(shortened(terms, 0)) == ["atte", "attr", "loss"]
    assert shortened({}, 10) == {}


def test_a_narrow_terminal_shows_an_epoch_a_line_with_its_validation_below(tmp_path):
    small = write_small_virtual(tmp_path)
    settings = ["method=differ", "debug=fast", "data.validation=identities", *small]
    command = [sys.executable, "-m", "ccreid.train", *TINY, *settings, "hydra.run.dir=run"]
    environment = {"COLUMNS": "80", "PATH": "", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
    )
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    for epoch in (1, 2):
        (at,) = [i for i, line in enumerate(lines) if line.startswith(f"Epoch {epoch}/2")]
        assert len(lines[at]) <= 80
        terms = r"( \w+: \d+\.\d\d){5}$"  # none wrapped, none lost
        assert re.search(rf" 1/1 \d:\d\d:\d\d{terms}", lines[at].rstrip())
        protocols = ", ".join(rf"{name} \d+\.\d/\d+\.\d" for name in ("general", "sc", "cc"))
        below = next(line for line in lines[at + 1 :] if line.strip())
        assert re.fullmatch(f"validation rank-1/mAP: {protocols}", below.rstrip())
