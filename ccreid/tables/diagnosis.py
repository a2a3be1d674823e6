"""What a person reads in the terminal when checkpoints were diagnosed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.table import Table

from ccreid.retrieval.factors import FactorSimilarities, Interval

Results = Mapping[str, FactorSimilarities]

_NOTE = """\
Means over {people} rendered people [95 % bootstrap interval by person]. No image's camera was \
given to a network.
Kept: 100 = the change is not seen, 0 = it costs as much as being somebody else, – = people are \
not told apart even without it. Ranked before: 50 = chance.
+camera: the images compared come from different cameras. Without it they share their background, \
which helps to recognise them. Only under a change of clothes must a feature know the person; else \
it can go by the clothes."""


def diagnosis_report(results: Results, levels: Mapping[str, Sequence[str]]) -> Group:
    """Return the measures of every change, a column per checkpoint.

    Args:
        results: by checkpoint.
        levels: by factor, the names of its levels.
    """
    first = next(iter(results.values()))
    kept = _table("similarity kept (%)", results)
    right = _table("ranked before other people (%)", results)
    cosine = _table("cosine", results)
    for change in first.changes:
        kept.add_row(change, *(_percent(each.kept(change)) for each in results.values()))
        right.add_row(change, *(_percent(each.ranked_right(change)) for each in results.values()))
        cosine.add_row(change, *(_plain(each.cosine(change)) for each in results.values()))
    for change, name in (("clothes", "person"), ("clothes+camera", "person+camera")):
        cosine.add_row(name, *(_plain(each.another_person(change)) for each in results.values()))
    note = _NOTE.format(people=len(first.another))
    return Group(_pairs(results, levels), cosine, right, kept, note)


def _pairs(results: Results, levels: Mapping[str, Sequence[str]]) -> Table:
    table = _table("cosine of every two levels", results)
    for factor, names in levels.items():
        every = [each.pairs(factor) for each in results.values()]
        for k, m in every[0]:
            cells = (f"{each[k, m]:.3f}" for each in every)
            table.add_row(f"{factor}: {names[k]} – {names[m]}", *cells)
        table.add_section()
    return table


def _table(title: str, results: Results) -> Table:
    table = Table(title=title, title_justify="left", min_width=len(title) + 4)
    table.add_column("changed")
    for name in results:
        table.add_column(name, justify="right")
    return table


def _percent(interval: Interval) -> str:
    if math.isnan(interval.mean):
        return "–"
    mean, low, high = (f"{100 * value:.0f}" for value in interval)
    return f"{mean} [{low}, {high}]"


def _plain(interval: Interval) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*interval)
