"""What the README says is run."""

import re
from pathlib import Path

import pytest

from tests.commands import blocks, commands, compose_command
from tests.conftest import TINY
from tests.test_verbs import verb

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = blocks(README)


@pytest.mark.parametrize("command", commands(README))
def test_commands_compose(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compose_command(command)


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
        "allow_targets=[plain]",
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
