"""What the README says is run."""

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ccreid.config import compose
from ccreid.train import train

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
def test_commands_compose(command):
    filled_in = re.sub(r"<\w+>", "x", command)
    _, _, module, *arguments = shlex.split(filled_in, comments=True)
    compose(module.removeprefix("ccreid."), [a for a in arguments if a not in ("-m", "--multirun")])


def test_the_method_in_twenty_lines_trains(tiny_config, monkeypatch):
    (code,) = [text for language, text in BLOCKS if language == "python" and "class Plain" in text]
    module = ModuleType("readme_method")
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, "readme_method", module)
    module.Plain.__module__ = "readme_method"
    cfg = tiny_config(
        "method=baseline",
        "method._target_=readme_method.Plain",
        "~method.gather",
        "~method.label_smoothing",
        "~method.margin",
        "debug=fast",
    )
    assert train(cfg).metrics["test/virtual/cc/num_valid_queries"] == 256


def test_its_pieces_exist():
    for name in re.findall(r"^from (ccreid\.\w+) import (.+)$", README, flags=re.MULTILINE):
        module, names = name
        exec(f"from {module} import {names}", {})
