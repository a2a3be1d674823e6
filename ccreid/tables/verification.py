"""What a person reads in the terminal when a benchmark was checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.verification.checks import CountCheck, Verification
from ccreid.data.verification.folder_tree import Folder

_SHOWN = 50  # faults and warnings; --json lists all of them
_STYLES = {"right": "green", "wrong": "red", "not found": "yellow"}


def verification_report(
    results: Sequence[Verification], all_offered: bool = False, nothing_in: str = ""
) -> Group:
    """Return everything found, benchmark by benchmark, and a summary of several.

    Args:
        results: one per benchmark.
        all_offered: nobody asked for each of them; what is not found is in the summary alone.
        nothing_in: the fault of there being no benchmark at all where they should lie.
    """
    told = [r for r in results if not (all_offered and r.status == "not found")]
    parts = [part for result in told for part in _benchmark(result)]
    if len(results) > 1:
        parts += [Rule("summary", align="left", style="dim"), _summary(results)]
    if nothing_in:
        parts += _list("fault", [nothing_in], "red")
    return Group(*parts)


def _benchmark(result: Verification) -> Iterator[RenderableType]:
    style = _STYLES[result.status]
    yield Rule(Text(f"{result.name}: {result.status}", style), align="left", style=style)
    if result.root is not None:
        yield Text("expected")
        yield Text(result.layout, style="dim")
        if result.tree is not None:
            yield Text("found")
            yield Padding(_tree(result.tree), (0, 2))
        yield Text()
        yield _counts(result)
        if result.protocols:
            yield _protocols(result)
        yield Text("\n".join(_sentences(result)))
    yield from _list("fault", result.faults, "red")
    yield from _list("warning", result.warnings, "yellow")
    if result.root is not None:
        yield Text(f"Licence: {result.licence}\nCite: {result.citation}\n{result.url}", "dim")
    yield Text()


def _tree(folder: Folder) -> Tree:
    tree = Tree(_described(folder), guide_style="dim")
    todo = [(tree, inner) for inner in folder.folders]
    for branch, inner in todo:
        below = branch.add(_described(inner))
        todo += [(below, further) for further in inner.folders]
    return tree


def _described(folder: Folder) -> Text:
    hidden = folder.num_folders - len(folder.folders)
    folders = f" in {_many(hidden, 'folder')}" if hidden else ""
    return Text.assemble(folder.name, (f"  {_many(folder.images, 'image')}{folders}", "dim"))


def _many(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _counts(result: Verification) -> Table:
    table = Table(title="counts", title_justify="left")
    table.add_column("part")
    for column in ("people", "found", "images", "found"):
        table.add_column(column, justify="right")
    table.add_column("published number")
    for count in result.counts:
        unit = "" if count.found.what in f"{count.part} images" else f", {count.found.what}"
        published = count.expected or SplitCount(None, None)
        numbers = published.identities, count.found.identities, published.images, count.found.images
        shown = ("–" if number is None else f"{number:,}" for number in numbers)
        table.add_row(f"{count.part}{unit}", *shown, _verdict(count))
    return table


def _verdict(count: CountCheck) -> Text:
    styles = {"ok": "green", "differs": "yellow", "wrong": "red", "absent": "yellow"}
    style = styles.get(count.verdict, "dim")
    certainty = f"{count.certainty}: " if count.certainty else ""
    return Text.assemble(certainty, (count.verdict, style))


def _protocols(result: Verification) -> Table:
    table = Table(title="protocols", title_justify="left")
    table.add_column("rule")
    table.add_column("queries", justify="right")
    table.add_column("without match", justify="right")
    for protocol in result.protocols:
        hopeless = protocol.unanswerable == protocol.queries
        unanswerable = Text(f"{protocol.unanswerable:,}", "red" if hopeless else "")
        table.add_row(protocol.rule, f"{protocol.queries:,}", unanswerable)
    return table


def _sentences(result: Verification) -> Iterator[str]:
    if result.num_inspected:
        whole = result.num_inspected - len(result.unreadable)
        yield f"{whole:,} of {_many(result.num_images, 'image')} whole."
        yield f"{_many(len(result.duplicates), 'image')} there more than once."
    else:
        yield f"{_many(result.num_images, 'image')} listed, not read."
    yield f"{_many(result.num_foreign_files, 'file')} beside the images passed over."


def _list(word: str, sentences: Sequence[str], style: str) -> Iterator[RenderableType]:
    for sentence in sentences[:_SHOWN]:
        row = Table.grid(padding=(0, 1))
        row.add_row(Text(word, style), Text(sentence))
        yield row
    if len(sentences) > _SHOWN:
        hidden = len(sentences) - _SHOWN
        yield Text(f"{_many(hidden, f'more {word}')}; --json lists all of them", style)


def _summary(results: Sequence[Verification]) -> Table:
    table = Table()
    table.add_column("benchmark")
    table.add_column("verdict")
    for column in ("images", "faults", "warnings"):
        table.add_column(column, justify="right")
    for result in results:
        numbers = (result.num_images, len(result.faults), len(result.warnings))
        shown = ("–",) * 3 if result.status == "not found" else (f"{n:,}" for n in numbers)
        table.add_row(result.name, Text(result.status, _STYLES[result.status]), *shown)
    return table
