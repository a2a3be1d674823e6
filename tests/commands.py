"""The commands that README and the pages of docs show, and composing one as its verb would."""

import re
import shlex
from functools import partial

from ccreid.config import compose
from ccreid.runs.multirun import Sweep, plan_command


def blocks(text: str) -> list[tuple[str, str]]:
    """Return language and content of every block of code in a page."""
    return re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)


def commands(text: str) -> list[str]:
    """Return the lines of a page that call a verb."""
    lines = "".join(code for language, code in blocks(text) if language == "bash")
    lines = lines.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("python -m ccreid.")]


def compose_command(command: str) -> None:
    """Compose the config of a command; what stands in angle brackets is filled in."""
    filled_in = re.sub(r"<[\w ]+>", "x", command)
    _, _, module, *arguments = shlex.split(filled_in, comments=True)
    overrides = [argument for argument in arguments if argument != "-m"]
    composing = partial(compose, module.removeprefix("ccreid."), with_hydra=True)
    planned = plan_command(overrides, "-m" in arguments, composing)
    assert isinstance(planned, Sweep) == ("-m" in arguments or "+sweep=" in command)
