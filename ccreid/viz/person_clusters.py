"""The cluster sheet of one person of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.sample import Sample
from ccreid.viz.clusters import draw_clusters
from ccreid.viz.samples import outfit_numbers, sample_picture


def draw_person(
    samples: Sequence[Sample],
    labels: NDArray[np.int64],
    benchmark: Benchmark,
    title: str = "",
    rows: int = 8,
    places: int = 10,
) -> Image.Image:
    """Draw the images of a person by cluster, their outfits marked where they are labelled.

    Args:
        samples: of the person, N >= 1.
        labels: cluster of every sample, [N].
        benchmark: whose licence says how images may be shown.
        title: the first line of the sheet.
        rows: clusters at most.
        places: images of a cluster at most.

    Returns:
        An RGB image.
    """
    return draw_clusters(
        labels,
        lambda index: sample_picture(samples[index], benchmark),
        outfit_numbers(samples),
        title=title,
        rows=rows,
        places=places,
    )
