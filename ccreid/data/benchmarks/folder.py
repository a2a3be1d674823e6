"""folder: a user's own images, one folder per person."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ccreid.data.benchmarks.base import (
    IMAGE_EXTENSIONS,
    SPLITS,
    is_foreign_folder,
    list_images,
)
from ccreid.data.benchmarks.own import Own, OwnImage, SplitRule
from ccreid.errors import BenchmarkNotFound, ConfigError, DataError, nearest, require

EXTENSIONS = (*IMAGE_EXTENSIONS, ".bmp", ".webp", ".tif", ".tiff")


class Folder(Own):
    """Images of people, one folder per person, with or without folders of the three splits.

    A person's folder may have any name; where all names are numbers they are the people's numbers,
    else people are numbered in sorted order over all splits. A name means the same person in every
    split. Files that are no images are passed over and counted.

    Args:
        root: holds `train`, `query` and `gallery`, or the folders of the people themselves.
        test_people, queries_per_person: see `SplitRule`; of no effect where the splits are given.
        camera_pattern, clothes_pattern: a regular expression with one group, the camera or outfit,
            that fits an image's whole name without its extension; None where names do not say.

    Raises:
        DataError: no such folder, images that lie elsewhere, names that do not fit a pattern, an
            empty split, or no query with a match.
        ConfigError: no root, or an impossible setting.
    """

    name = "folder"
    layout = (
        "  <root>/{train,query,gallery}/<person>/<image>.jpg\n"
        "  or <root>/<person>/<image>.jpg, which is then split by a rule\n"
        f"  (any names; images end in {', '.join(EXTENSIONS)})"
    )

    def __init__(
        self,
        root: Path | str | None = None,
        test_people: float = 0.5,
        queries_per_person: int | None = None,
        camera_pattern: str | None = None,
        clothes_pattern: str | None = None,
    ) -> None:
        require(bool(root), "data.root", root, "the folder of your images: data.root=<folder>")
        self.root = Path(root or "").expanduser()
        rule = SplitRule(test_people, queries_per_person)
        self._camera = _pattern("camera_pattern", camera_pattern)
        self._outfit = _pattern("clothes_pattern", clothes_pattern)
        self.arrange(list(self._list()), rule)

    @classmethod
    def lacks(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return what the train images have in no case; patterns read labels from the names."""
        lacking = super().lacks(settings)
        for what, pattern in (("cameras", "camera_pattern"), ("clothes", "clothes_pattern")):
            if settings.get(pattern) is None:
                lacking[what] = (
                    f"Where the names of the images tell: data.benchmark.{pattern}=<a regular "
                    "expression with one group>."
                )
        return lacking

    def remedy(self) -> str:
        """Return where the loader looked and what it expected."""
        return (
            f"Looked in {self.root.absolute()}, expected\n{self.layout}\n"
            "Choose another folder with data.root=<folder>."
        )

    def _list(self) -> Iterator[OwnImage]:
        if not self.root.is_dir():
            beside = self.root.absolute().parent
            names = [path.name for path in beside.iterdir()] if beside.is_dir() else []
            raise BenchmarkNotFound(
                f"There is no folder {self.root.absolute()}.{nearest(self.root.name, names)}\n"
                f"{self.remedy()}"
            )
        given = [split for split in SPLITS if (self.root / split).is_dir()]
        for split in SPLITS:
            if given and split not in given:
                inside = ", ".join(sorted(path.name for path in self.root.iterdir())[:12])
                self.fault(f"{self.root / split} does not exist; {self.root} holds {inside}.")
        is_empty = True
        for split in given or [""]:
            for person in self._people(self.root / split):
                for image in self._images(person, split):
                    is_empty = False
                    yield image
        if is_empty:
            raise DataError(f"{self.root} holds no image.{self._nested()}\n{self.remedy()}")

    def _people(self, folder: Path) -> Iterator[Path]:
        """Yield the folders in a folder; images beside them are a fault."""
        strays = [path.name for path in list_images(folder, EXTENSIONS)]
        if strays:
            self.fault(
                f"{folder} holds {len(strays)} images beside the people's folders. Whose they are "
                f"is not known: {strays[0]} should be in {folder}/<person>/{strays[0]}."
            )
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not is_foreign_folder(path.name):
                yield path
            elif path.name not in strays:
                self.num_foreign_files += 1

    def _images(self, person: Path, split: str) -> Iterator[OwnImage]:
        self.report_broken_links(sorted(person.iterdir()), EXTENSIONS)
        images = list(list_images(person, EXTENSIONS))
        self.num_foreign_files += sum(1 for _ in person.iterdir()) - len(images)
        inner = [path for path in sorted(person.iterdir()) if _holds_images(path)]
        if inner:
            self.fault(
                f"{person} holds folders of images ({', '.join(p.name for p in inner[:3])}, ...); "
                "the images of a person should lie in the person's folder itself. If these folders "
                f"are the people, say data.root={person}"
            )
        elif not images:
            self.warnings += (f"{person} holds no image and is not counted as a person.",)
        for image in images:
            labels = self._label(self._camera, image), self._label(self._outfit, image)
            if None not in labels:
                camera, outfit = (label or "" for label in labels)
                yield OwnImage(str(image), person.name, camera, outfit, split)

    def _label(self, pattern: re.Pattern[str] | None, image: Path) -> str | None:
        """Return what the pattern's group finds, nothing without a pattern, None for a fault."""
        if pattern is None:
            return ""
        match = pattern.fullmatch(image.stem)
        if match is not None and match[1]:
            return match[1]
        which = "camera_pattern" if pattern is self._camera else "clothes_pattern"
        self.fault(
            f"{image}: the name without its extension, '{image.stem}', does not fit "
            f"data.benchmark.{which}={pattern.pattern}, which should fit all of it."
        )
        return None

    def _nested(self) -> str:
        for pattern in ("*/train", "*/*/train"):
            for train in sorted(self.root.glob(pattern)):
                return f" {train.parent} holds train: say data.root={train.parent}"
        return ""


def _holds_images(path: Path) -> bool:
    is_folder = path.is_dir() and not is_foreign_folder(path.name)
    return is_folder and any(True for _ in list_images(path, EXTENSIONS))


def _pattern(setting: str, text: str | None) -> re.Pattern[str] | None:
    """Compile a user's pattern; a ConfigError names the setting."""
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(
            f"data.benchmark.{setting}={text} is not a regular expression: {error}."
        ) from None
    wanted = "a pattern with one group in parentheses, for example .*_c([0-9]+)_.*"
    require(pattern.groups == 1, f"data.benchmark.{setting}", text, wanted)
    return pattern
