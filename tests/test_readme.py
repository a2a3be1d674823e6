"""What the README says is run."""

import re
import shlex
from functools import partial
from pathlib import Path

import pytest

from ccreid.config import compose
from ccreid.multirun import plan_sweep
from tests.conftest import TINY
from tests.test_verbs import verb

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line
    for language, text in BLOCKS
    if language == "bash"
    for line in text.splitlines()
    if line.startswith("python -m ccreid.")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_compose(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filled_in = re.sub(r"<\w+>", "x", command)
    _, _, module, *arguments = shlex.split(filled_in, comments=True)
    overrides = [argument for argument in arguments if argument != "-m"]
    composing = partial(compose, module.removeprefix("ccreid."), with_hydra=True)
    sweep = plan_sweep(overrides, "-m" in arguments, composing)
    assert (sweep is not None) == ("-m" in arguments or "+sweep=" in command)


def test_the_method_in_twenty_lines_trains(tmp_path):
    (code,) = [text for language, text in BLOCKS if language == "python" and "class Plain" in text]
    (tmp_path / "plain.py").write_text(code)
    for text in (text for language, text in BLOCKS if language == "yaml"):
        path = tmp_path / re.search(r"conf/\w+/\w+\.yaml", text)[0]
        path.parent.mkdir(parents=True)
        path.write_text(text)
    exit_code, output = verb(
        "train",
        *TINY,
        "method=plain",
        "debug=fast",
        f"hydra.searchpath=[file://{tmp_path}/conf]",
        cwd=tmp_path,
    )
    assert exit_code == 0, output
    assert "recipe: plain_virtual" in output


def test_its_pieces_exist():
    for name in re.findall(r"^from (ccreid\.\w+) import (.+)$", README, flags=re.MULTILINE):
        module, names = name
        exec(f"from {module} import {names}", {})
