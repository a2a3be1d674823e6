"""Agreement of two labellings, against scikit-learn person by person."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from ccreid.clustering.agreement import rand_agreement
from ccreid.errors import DataError


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_mean_of_each_persons_adjusted_rand_index(seed):
    draw = np.random.default_rng(seed)
    pids = draw.integers(6, size=90) * 7
    labels, others = pids * 10 + draw.integers(3, size=90), draw.integers(4, size=90)
    each = [adjusted_rand_score(labels[pids == p], others[pids == p]) for p in np.unique(pids)]
    assert rand_agreement(labels, others, pids) == pytest.approx(np.mean(each), abs=1e-12)
    tensors = map(torch.from_numpy, (labels, others, pids))
    assert rand_agreement(*tensors) == pytest.approx(np.mean(each), abs=1e-12)


def test_numbers_do_not_matter_and_people_without_a_choice_agree():
    pids = np.array([1, 1, 1, 1, 2, 2, 3])
    assert rand_agreement([0, 0, 1, 1, 2, 2, 3], [9, 9, 5, 5, 4, 4, 4], pids) == 1
    assert rand_agreement(np.arange(7), np.arange(7)[::-1], pids) == 1
    # The second person's two images are together once and apart once: 0 of them agrees.
    assert rand_agreement([0, 0, 1, 1, 2, 2, 3], [0, 0, 1, 1, 2, 3, 4], pids) == pytest.approx(
        2 / 3
    )


def test_labels_of_different_lengths_are_refused():
    with pytest.raises(DataError, match="cannot be compared"):
        rand_agreement([0, 1], [0], [1, 1])
    with pytest.raises(DataError, match="cannot be compared"):
        rand_agreement([], [], [])
