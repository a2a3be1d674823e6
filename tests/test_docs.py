"""The pages of the benchmarks are what their classes say."""

import importlib.util
from pathlib import Path

import pytest

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
