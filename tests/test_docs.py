"""The pages of the benchmarks are what their classes say; commands that pages show compose."""

import importlib.util
import re
from pathlib import Path

import pytest

from tests.commands import commands, compose_command

DOCS = Path(__file__).parents[1] / "docs"

spec = importlib.util.spec_from_file_location("write_benchmarks", DOCS / "write_benchmarks.py")
write_benchmarks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(write_benchmarks)
BENCHMARKS = write_benchmarks.published_benchmarks()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_page_is_up_to_date(name):
    expected = write_benchmarks.page(name, BENCHMARKS[name])
    assert (DOCS / "benchmarks" / f"{name}.md").read_text() == expected, (
        "run python docs/write_benchmarks.py"
    )


def test_every_page_is_listed():
    index = (DOCS / "benchmarks" / "README.md").read_text()
    pages = sorted(path.name for path in (DOCS / "benchmarks").glob("*.md"))
    assert pages == sorted(["README.md", *(f"{name}.md" for name in BENCHMARKS)])
    assert all(f"]({name}.md)" in index for name in BENCHMARKS)


@pytest.mark.parametrize(
    "command", [line for page in sorted(DOCS.glob("*.md")) for line in commands(page.read_text())]
)
def test_commands_of_the_pages_compose(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compose_command(command)


def test_every_test_that_proves_a_promise_exists():
    rows = [line for line in (DOCS / "promises.md").read_text().splitlines() if "::" in line]
    assert len(rows) > 20
    for row in rows:
        file = ""
        for name in re.findall(r"`([\w./]+\.py::test_\w+|test_\w+)`", row):
            *path, test = name.split("::")
            file = path[0] if path else file
            assert f"def {test}(" in (DOCS.parent / file).read_text(), name
