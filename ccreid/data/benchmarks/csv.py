"""csv: a user's own images, listed with their labels in a file."""

from __future__ import annotations

import csv
import os.path
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ccreid.data.benchmarks.base import SPLITS
from ccreid.data.benchmarks.own import NUMBER, Own, OwnImage, SplitRule
from ccreid.errors import BenchmarkNotFound, DataError, nearest, require

COLUMNS = ("path", "pid", "camid", "clothes_id", "split")
REQUIRED = ("path", "pid")
OPTIONAL_IDS = ("camid", "clothes_id")


@dataclass(frozen=True)
class _Row:
    line: int
    path: str  # as the library opens it
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")


class CSV(Own):
    """Images that a CSV file lists, one a line, with the columns that its first line names.

    `path` and `pid` are needed; `camid`, `clothes_id` and `split` may be left out, in any order, or
    be empty in every line (`camid` and `clothes_id` also in all of train, or in all of query and
    gallery). An outfit is a `clothes_id` of one person, whether the numbers start again with each
    person or not; they are numbered anew. Text is UTF-8, separated by commas.

    Args:
        file: the CSV file.
        root: what relative paths are relative to; None for the folder of the file.
        test_people, queries_per_person: see `SplitRule`; of no effect where the splits are given.

    Raises:
        DataError: the file is missing or no such file, a line that cannot be right, an empty split,
            or no query with a match; the message names the file and the line.
        ConfigError: no file, or an impossible setting.
    """

    name = "csv"
    layout = (
        "  path,pid,camid,clothes_id,split    (the last three may be left out)\n"
        "  images/a1.jpg,17,0,2,train         (ids are whole numbers from 0)\n"
        "  images/a2.jpg,23,1,0,query         (train, query or gallery)"
    )

    def __init__(
        self,
        file: Path | str | None = None,
        root: Path | str | None = None,
        test_people: float = 0.5,
        queries_per_person: int | None = None,
    ) -> None:
        require(bool(file), "data.file", file, "the list of your images: data.file=<file.csv>")
        self.file = Path(file or "").expanduser()
        self.root = self.file.parent if root is None else Path(root).expanduser()
        rule = SplitRule(test_people, queries_per_person)
        rows = list(self._without_duplicates(filter(self._is_right, self._read())))
        if not rows:
            raise DataError(f"{self.file} lists no image.\n{self.remedy()}")
        self._look_for_gaps(rows)
        images = [
            OwnImage(row.path, row["pid"], row["camid"], row["clothes_id"], row["split"])
            for row in rows
        ]
        self.arrange(images, rule)

    def remedy(self) -> str:
        """Return which file was read and what it should look like."""
        return (
            f"Read {self.file.absolute()}, paths relative to {self.root.absolute()} (another one: "
            f"data.root=<folder>), expected\n{self.layout}"
        )

    def _read(self) -> Iterator[_Row]:
        """Yield the lines as they are, each with as many cells as there are columns."""
        records = self._records()
        _, header = next(records, (1, []))
        columns = self._columns([name.strip() for name in header])
        for line, fields in records:
            if len(fields) != len(header):
                self.fault(
                    f"{self.file}, line {line}: {len(fields)} cells, but line 1 names "
                    f"{len(header)} columns. Put a path that holds a comma in double quotes."
                )
                continue
            named = zip(columns, (field.strip() for field in fields), strict=True)
            cells = {column: cell for column, cell in named if column}
            yield _Row(line, os.path.normpath(os.path.join(self.root, cells["path"])), cells)

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the first line's number and the cells of every record that is not empty."""
        end = 0
        try:
            with open(self.file, encoding="utf-8-sig", newline="") as text:
                records = csv.reader(text, skipinitialspace=True, strict=True)
                for fields in records:
                    if any(field.strip() for field in fields):
                        yield end + 1, fields
                    end = records.line_num
        except FileNotFoundError:
            beside = self.file.absolute().parent
            names = [path.name for path in beside.iterdir()] if beside.is_dir() else []
            raise BenchmarkNotFound(
                f"There is no file {self.file.absolute()}.{nearest(self.file.name, names)}\n"
                f"{self.remedy()}"
            ) from None
        except UnicodeDecodeError as error:
            problem = f"{self.file} is not UTF-8 text ({error.reason}). Save it as CSV UTF-8."
        except csv.Error as error:
            problem = f"{self.file}, line {end + 1}: {error}. Mend the quotes of this line."
        except OSError as error:
            problem = f"{self.file} cannot be read: {error.strerror}."
        else:
            return
        raise DataError(f"{problem}\n{self.remedy()}")

    def _columns(self, header: list[str]) -> list[str]:
        """Return the known columns in the file's order, an empty text for every other."""
        if not header:
            raise DataError(f"{self.file} is empty.\n{self.remedy()}")
        if len(header) == 1 and (sign := re.search("[;\t|]", header[0])):
            raise DataError(
                f"{self.file}, line 1: columns are separated by {sign[0]!r}. Save it with commas."
                f"\n{self.remedy()}"
            )
        columns: list[str] = []
        for name in header:
            if name in columns:
                self.fault(f"{self.file}, line 1: there are two columns '{name}'. Remove one.")
            elif name not in COLUMNS:
                absent = [column for column in COLUMNS if column not in header]
                self.fault(
                    f"{self.file}, line 1: unknown column '{name}'."
                    f"{nearest(name.lower(), absent)} Columns are {', '.join(COLUMNS)}; rename it "
                    "or take it out."
                )
            columns.append(name if name in COLUMNS and name not in columns else "")
        if missing := [column for column in REQUIRED if column not in columns]:
            raise DataError(
                f"{self.file}, line 1: the column {' and '.join(missing)} is missing; the line "
                f"names {', '.join(header)}.\n{self.remedy()}"
            )
        return columns

    def _is_right(self, row: _Row) -> bool:
        """Return whether a line can be used; whatever is wrong with it is a fault."""
        problems = list(self._problems(row))
        for problem in problems:
            self.fault(f"{self.file}, line {row.line}: {problem}.")
        return not problems

    def _problems(self, row: _Row) -> Iterator[str]:
        for column in ("pid", *OPTIONAL_IDS):
            if (row[column] or column == "pid") and not NUMBER.fullmatch(row[column]):
                yield f"{column} '{row[column]}' should be a whole number, 0 or more"
        if row["split"] not in ("", *SPLITS):
            hint = nearest(row["split"].lower(), SPLITS)
            yield f"unknown split '{row['split']}'.{hint} Choose train, query or gallery"
        if not row["path"]:
            yield "the path is empty"
        elif not os.path.isfile(row.path):
            kind = "folder, not an image" if os.path.isdir(row.path) else "path that does not exist"
            yield f"{row.path} is a {kind}"

    def _without_duplicates(self, rows: Iterable[_Row]) -> Iterator[_Row]:
        lines: dict[str, int] = {}
        for row in rows:
            first = lines.setdefault(row.path, row.line)
            if first == row.line:
                yield row
            else:
                self.fault(
                    f"{self.file}, line {row.line}: {row.path} is in line {first} already. An "
                    "image has one line, and is in one split."
                )

    def _look_for_gaps(self, rows: Sequence[_Row]) -> None:
        """Find columns that are filled in some lines only, where they matter together."""
        train = [row for row in rows if row["split"] == "train"]
        tested = [row for row in rows if row["split"] != "train"]
        for column, part in [("split", rows), *product(OPTIONAL_IDS, (train, tested))]:
            gaps = [row for row in part if not row[column]]
            if gaps and len(gaps) < len(part):
                self.fault(
                    f"{self.file}, line {gaps[0].line}: no {column}, which {len(part) - len(gaps)} "
                    f"of {len(part)} lines beside it have. Fill it in everywhere or nowhere."
                )
