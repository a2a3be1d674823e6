"""Which people and images of a benchmark a picture shows, and how an image may be shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.files import read_image
from ccreid.data.sample import Sample, ids
from ccreid.errors import ConfigError, require


def sample_picture(sample: Sample, benchmark: Benchmark) -> Image.Image:
    """Return the image of a sample, its upper quarter as a mosaic where the licence wants that."""
    image = read_image(sample.cover)
    if benchmark.hide_faces:
        head = image.crop((0, 0, image.width, max(1, image.height // 4)))
        blocks = head.resize((4, 4), Image.Resampling.BOX)
        image.paste(blocks.resize(head.size, Image.Resampling.NEAREST), (0, 0))
    return image


def require_people(samples: Sequence[Sample], people: Sequence[int], where: str) -> None:
    """Raise a ConfigError unless `people` names one or more people of the samples, each once."""
    there = set(ids(samples, "pid").tolist())
    wanted = f"one or more people of the {where}, each once"
    require(len(people) > 0 and len(set(people)) == len(people), "people", list(people), wanted)
    if unknown := [pid for pid in people if pid not in there]:
        known = sorted(there)
        more = f", ... {known[-1]}" if len(known) > 8 else ""
        raise ConfigError(
            f"people={list(people)}: the {where} has no person {unknown[0]}. "
            f"It has {', '.join(map(str, known[:8]))}{more}."
        )


def spread_people(samples: Sequence[Sample], number: int) -> list[int]:
    """Return so many pids, or all there are, spread evenly over those of the samples, rising."""
    there = np.unique(ids(samples, "pid"))
    places = np.linspace(0, len(there) - 1, min(number, len(there)))
    return [int(pid) for pid in there[places.round().astype(int)]]


def outfits_in_turn(samples: Sequence[Sample], number: int) -> list[Sample]:
    """Return so many samples: the first of every outfit, then the second of every one, ..."""
    met: Counter[int] = Counter()
    turns = []
    for position, sample in enumerate(samples):
        turns.append((met[sample.clothes_id], sample.clothes_id, position))
        met[sample.clothes_id] += 1
    return [samples[position] for *_, position in sorted(turns)[:number]]


def outfit_numbers(samples: Sequence[Sample]) -> list[int] | None:
    """Number every person's outfits from 0 in rising clothes id; None if one is unlabelled."""
    if any(sample.clothes_id < 0 for sample in samples):
        return None
    owned: dict[int, set[int]] = {}
    for sample in samples:
        owned.setdefault(sample.pid, set()).add(sample.clothes_id)
    number = {
        (pid, outfit): rank for pid, own in owned.items() for rank, outfit in enumerate(sorted(own))
    }
    return [number[sample.pid, sample.clothes_id] for sample in samples]
