"""Checks that training and evaluating on a benchmark would be right, and lists all that is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ccreid.data.benchmarks.base import Benchmark, SplitCount, collect_faults
from ccreid.data.sample import ids
from ccreid.data.verification.duplicates import Duplicate, find_duplicates
from ccreid.data.verification.folder_tree import Folder, folder_tree, listed_tree
from ccreid.data.verification.inspection import inspect_images
from ccreid.data.verification.manifest import Inspected, Manifest, below
from ccreid.errors import BenchmarkNotFound, DataError, some

Progress = Callable[[int, int], None]
Verdict = Literal["ok", "differs", "wrong", "absent", "unpublished"]


@dataclass(frozen=True)
class CountCheck:
    """One part's published size beside the size found.

    Attributes:
        part: a split, a part of one, or the total.
        expected, found: the sizes; `expected` is None where none is published.
        certainty: `verified` or `remembered`; where people differ in this, they are named apart.
        verdict: `ok`; `differs` from a remembered number; `wrong` beside a verified one, or far
            off a remembered one; `absent`, and not needed; `unpublished`.
    """

    part: str
    expected: SplitCount | None
    found: SplitCount
    certainty: str
    verdict: Verdict


@dataclass(frozen=True)
class ProtocolCheck:
    """How many queries of a protocol take part, and how many of them no gallery image can answer.

    Attributes:
        name: of the protocol.
        rule: the protocol in one line.
        queries, unanswerable: the two numbers.
    """

    name: str
    rule: str
    queries: int
    unanswerable: int


@dataclass
class Verification:
    """All that was found about one benchmark.

    Attributes:
        name: as `data=` takes it.
        licence, citation, url, layout: as the benchmark states them.
        status: `right`, `wrong`, or `not found` where there is no folder of the benchmark.
        root: where it is; None if it was not found.
        tree: the folders found there.
        counts, protocols: what was compared.
        num_foreign_files: files beside the images that were passed over.
        num_images: image files that the lists name.
        num_inspected: how many of them were read and hashed.
        unreadable: the images that cannot be decoded, and why.
        duplicates: images that are there more than once.
        faults: whatever makes training or evaluating wrong, one sentence each.
        warnings: what is odd but harmless.
    """

    name: str
    licence: str
    citation: str
    url: str
    layout: str
    status: Literal["right", "wrong", "not found"] = "right"
    root: str | None = None
    tree: Folder | None = None
    counts: list[CountCheck] = field(default_factory=list)
    protocols: list[ProtocolCheck] = field(default_factory=list)
    num_foreign_files: int = 0
    num_images: int = 0
    num_inspected: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    duplicates: list[Duplicate] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as lists, dictionaries, texts and numbers."""
        return asdict(self)


def verify_benchmark(
    name: str,
    kind: type[Benchmark],
    opened: Callable[[], Benchmark],
    manifests: Path | None = None,
    workers: int = 0,
    advance: Progress = lambda done, total: None,
) -> Verification:
    """Check one benchmark.

    Args:
        name: as `data=` takes it.
        kind: the benchmark's class, for what it states where it cannot be opened.
        opened: opens the benchmark.
        manifests: the folder that keeps what reading the images found; None leaves them unread.
        workers: processes that read images; 0 reads in this one.
        advance: is told how many of how many images were read.

    Raises:
        DataError: the manifest cannot be written.
    """
    result = Verification(name, kind.licence, kind.citation, kind.url, kind.layout)
    with collect_faults() as faults:
        try:
            benchmark = opened()
        except DataError as error:
            result.faults = [*faults, str(error)]
            result.status = "not found" if isinstance(error, BenchmarkNotFound) else "wrong"
            return result
    result.faults += dict.fromkeys(faults)  # a fault of the whole is met in every split
    result.root = str(benchmark.root.absolute())
    paths = _image_paths(benchmark)
    result.num_images = len(paths)
    published = bool(kind.counts)
    result.tree = folder_tree(benchmark.root) if published else listed_tree(benchmark.root, paths)
    result.num_foreign_files = benchmark.num_foreign_files
    result.warnings += benchmark.warnings
    result.counts += _compare_counts(benchmark)
    if benchmark.query and benchmark.gallery:
        result.protocols += _check_protocols(benchmark)
        result.faults += _useless_protocols(benchmark, result.protocols)
        result.warnings += _absent_people(benchmark)
    if manifests is not None:
        manifest = Manifest(manifests / f"{name}.manifest.tsv", name, benchmark.root)
        inspected = inspect_images(paths, manifest, workers, advance)
        _note_images(result, benchmark, dict(zip(paths, inspected, strict=True)))
    result.status = "wrong" if result.faults else "right"
    return result


def _compare_counts(benchmark: Benchmark) -> Iterator[CountCheck]:
    expected, there = benchmark.expected_counts(), benchmark.found_counts()
    for part, found in there.items():
        published = expected.get(part)
        if published is None:
            yield CountCheck(part, None, found, "", "unpublished")
            continue
        is_wrong, differs = published.contradicts(found)
        is_wrong = is_wrong or published.is_far_from(found)
        verdict: Verdict = "wrong" if is_wrong else "differs" if differs else "ok"
        yield CountCheck(part, published, found, _certainty(published), verdict)
    for part, published in expected.items():
        if part not in there:
            nothing = SplitCount(None, None, what=published.what)
            yield CountCheck(part, published, nothing, _certainty(published), "absent")


def _certainty(count: SplitCount) -> str:
    words = {True: "verified", False: "remembered"}
    sure = count.people_are_certain
    if count.identities is None or sure == count.certain:
        return words[count.certain]
    return f"{words[count.certain]}, people {words[sure]}"


def _check_protocols(benchmark: Benchmark) -> Iterator[ProtocolCheck]:
    for protocol in benchmark.protocols:
        unanswerable, queries = benchmark.num_unanswerable(protocol)
        yield ProtocolCheck(protocol.name, str(protocol), queries, unanswerable)


def _useless_protocols(benchmark: Benchmark, checks: list[ProtocolCheck]) -> Iterator[str]:
    for protocol, check in zip(benchmark.protocols, checks, strict=True):
        if check.unanswerable == check.queries:
            yield benchmark.why_unanswerable(protocol)


def _absent_people(benchmark: Benchmark) -> Iterator[str]:
    people, there = (set(ids(part, "pid")) for part in (benchmark.query, benchmark.gallery))
    if absent := sorted(int(pid) for pid in people - there):
        yield (
            f"{benchmark.name}: {len(absent)} of the {len(people)} people of the query are not in "
            f"the gallery, and their queries drop out: {some(list(map(str, absent)))}."
        )


def _image_paths(benchmark: Benchmark) -> list[str]:
    samples = (sample for split in benchmark.splits.values() for sample in split)
    return sorted({path for sample in samples for path in sample.image_paths})


def _note_images(
    result: Verification, benchmark: Benchmark, inspected: dict[str, Inspected]
) -> None:
    names = {path: below(benchmark.root, path) for path in inspected}
    sha256 = {path: found.sha256 for path, found in inspected.items() if not found.error}
    result.num_inspected = len(inspected)
    result.unreadable = {found.path: found.error for found in inspected.values() if found.error}
    result.faults += [f"{path}: {error}." for path, error in result.unreadable.items()]
    result.duplicates = find_duplicates(benchmark.splits, sha256, names)
    leaks = [found for found in result.duplicates if found.kind == "train and test"]
    result.faults += _told(leaks, "", "in train and in test")
    for same_person, whom in ((True, " of one person"), (False, " of different people")):
        for kind, where in (
            ("within a split", "there more than once"),
            ("query and gallery", "in query and in gallery"),
        ):
            found = [d for d in result.duplicates if (d.kind, d.same_person) == (kind, same_person)]
            result.warnings += _told(found, whom, where)


def _told(duplicates: Sequence[Duplicate], whom: str, where: str) -> Iterator[str]:
    if duplicates:
        verb = "image{} is" if len(duplicates) == 1 else "images{} are"
        groups = [some(duplicate.paths, separator=" = ") for duplicate in duplicates]
        yield f"{len(duplicates)} {verb.format(whom)} {where}: {some(groups)}."
