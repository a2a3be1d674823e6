"""A map of test features in two dimensions, by person and by outfit side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ccreid.errors import DataError, require
from ccreid.viz.marks import GREY, INK, LINE, PALETTE

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

Projection = Literal["tsne", "pca"]
Ids = NDArray[np.int64]

_PERPLEXITY = 30.0  # of van der Maaten and Hinton's t-SNE (JMLR 2008): typically 5 to 50
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LEGEND_COLUMNS = 4
_SHADES = 6  # outfits of one person that have a colour of their own


def project(
    features: Tensor, projection: Projection = "tsne", seed: int = 0
) -> tuple[NDArray[np.float64], str]:
    """Return features [N, D] as points of the plane [N, 2], and a line that says how.

    The features are normalised first, as they are for ranking. t-SNE keeps who is near whom; how
    far its islands lie apart, and how large they are, means nothing. PCA is linear: its distances
    are distances, of what two directions can show.

    Args:
        features: N >= 3, not all alike.
        projection: `tsne` (from the PCA, its perplexity 30, or a third of N - 1 if that is less),
            or `pca`.
        seed: of t-SNE.

    Raises:
        ConfigError: an unknown projection.
        DataError: fewer than three features, or all are the same.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    require(projection in ("tsne", "pca"), "embedding.projection", projection, "tsne or pca")
    vectors = features.double().numpy()
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    if len(vectors) < 3 or np.allclose(vectors, vectors[:1], atol=1e-6):
        raise DataError(
            f"{len(vectors)} features that do not differ, or fewer than three, make no map. Show "
            "more people (embedding.people=<number>), or look at the checkpoint."
        )
    if projection == "pca":
        pca = PCA(n_components=2, svd_solver="full")
        points = pca.fit_transform(vectors)
        shares = " and ".join(f"{share:.0%}" for share in pca.explained_variance_ratio_)
        return points, f"PCA: {shares} of the variance"
    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    points = tsne.fit_transform(vectors).astype(np.float64)
    how = f"t-SNE, perplexity {perplexity:.3g}, seed {seed}"
    return points, f"{how}: who is near whom; how far islands lie apart means nothing"


def draw_embedding(
    points: NDArray[np.float64],
    pids: Ids,
    outfits: Sequence[int] | None = None,
    title: str = "",
    note: str = "",
) -> Figure:
    """Draw points by person and, beside it, the same points by outfit.

    A person has a colour and a marker at the left and the same marker at the right, where the
    colour says which of its person's outfits an image shows: people whose points have one colour do
    not wear the same. A feature that ignores clothes mixes the colours of a marker at the right.

    Args:
        points: [N, 2].
        pids: [N].
        outfits: outfit of every image, [N], numbered from 0 for every person; None where the
            benchmark has no labels: the right side is then left out.
        title: the first line.
        note: how the map was made, below the title.

    Returns:
        A figure that belongs to no window: `.savefig(<file>)`.

    Raises:
        DataError: the numbers of points, people and outfits differ, or there are none.
    """
    from matplotlib.figure import Figure

    lengths = {len(points), len(pids)} | ({len(outfits)} if outfits is not None else set())
    if len(lengths) > 1 or 0 in lengths:
        raise DataError(f"{sorted(lengths)} points, people and outfits cannot be drawn together.")
    sides = 1 if outfits is None else 2
    rows = -(-max(len(np.unique(pids)), 1) // _LEGEND_COLUMNS)
    width, height = 0.2 + 6.0 * sides, 7.0 + 0.22 * rows  # inches
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(1, sides, squeeze=False)[0]
    figure.subplots_adjust(
        left=0.2 / width,
        right=1 - 0.2 / width,
        bottom=(0.25 + 0.22 * rows) / height,
        top=1 - 1.05 / height,
        wspace=0.05,
    )
    figure.text(0.2 / width, 1 - 0.35 / height, title, fontsize=13, color=_hex(INK))
    figure.text(0.2 / width, 1 - 0.6 / height, note, fontsize=10, color=_hex(GREY))
    _draw_people(axes[0], points, pids)
    if outfits is not None:
        _draw_outfits(axes[1], points, pids, np.asarray(outfits))
    return figure


def _draw_people(axes: Axes, points: NDArray[np.float64], pids: Ids) -> None:
    for rank, pid in enumerate(np.unique(pids).tolist()):
        own = points[pids == pid]
        colour = _hex(PALETTE[rank % len(PALETTE)])
        _scatter(axes, own, colour, _marker(rank), f"person {pid}")
    _dress(axes, "by person")


def _draw_outfits(axes: Axes, points: NDArray[np.float64], pids: Ids, outfits: Ids) -> None:
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    most = int(outfits.max()) + 1
    shades = colormaps["plasma"](np.linspace(0, 0.88, min(most, _SHADES)))
    handles = []
    for outfit in range(min(most, _SHADES + 1)):
        is_rest = outfit == _SHADES
        colour = _hex(GREY) if is_rest else shades[outfit]
        shown = outfits >= outfit if is_rest else outfits == outfit
        label = "further outfits" if is_rest else f"outfit {outfit + 1}"
        handles.append(Line2D([], [], linestyle="", marker="o", color=colour, label=label))
        for rank, pid in enumerate(np.unique(pids).tolist()):
            own = points[shown & (pids == pid)]
            if len(own):
                _scatter(axes, own, colour, _marker(rank), label)
    _dress(axes, "by outfit of each person (markers as at the left)", handles)


def _marker(rank: int) -> str:
    """The marker of a person: colour and marker together come again after 64 people."""
    return _MARKERS[(rank + rank // len(_MARKERS)) % len(_MARKERS)]


def _scatter(
    axes: Axes, points: NDArray[np.float64], colour: object, marker: str, label: str
) -> None:
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=36,
        color=[colour],
        marker=marker,
        edgecolors=_hex(INK),
        linewidths=0.4,
        label=label,
    )


def _dress(axes: Axes, name: str, handles: Sequence[Artist] | None = None) -> None:
    axes.set_title(name, loc="left", fontsize=12, color=_hex(INK))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(_hex(LINE))
    axes.set_aspect("equal", adjustable="datalim")
    shown = axes.get_legend_handles_labels()[0] if handles is None else handles
    axes.legend(
        handles=shown,
        frameon=False,
        fontsize=9,
        ncols=_LEGEND_COLUMNS,
        loc="upper left",
        bbox_to_anchor=(0, -0.01),
        borderaxespad=0,
    )


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
