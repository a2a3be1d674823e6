import itertools
from collections import Counter

import numpy as np
import pytest

from ccreid.data.samplers import PKSampler
from ccreid.errors import ConfigError


def sampler(sizes, p, k, seed=0, epoch=0, **ranks):
    pid = np.repeat(np.arange(len(sizes)), sizes)
    np.random.default_rng(1).shuffle(pid)
    return PKSampler(pid, p, k, seed=seed, epoch=lambda: epoch, **ranks), pid


def most_batches(chunks, p):
    """Brute force: how many batches of p distinct identities can be taken."""
    best = 0
    for chosen in itertools.combinations([i for i, c in enumerate(chunks) if c], p):
        left = list(chunks)
        for identity in chosen:
            left[identity] -= 1
        best = max(best, 1 + most_batches(tuple(left), p))
    return best


@pytest.mark.parametrize("seed", range(12))
def test_length_is_the_most_that_distinct_identities_allow(seed):
    rng = np.random.default_rng(seed)
    sizes, k = rng.integers(1, 9, size=4), 2
    planned, _ = sampler(sizes, 2, k, seed=seed)
    assert len(planned) == most_batches(tuple(max(1, s // k) for s in sizes), 2)
    assert len(list(planned)) == len(planned)


@pytest.mark.parametrize("seed", range(6))
def test_batches_hold_p_distinct_identities_with_k_images(seed):
    rng = np.random.default_rng(seed)
    planned, pid = sampler(rng.integers(1, 40, size=11), 4, 3, seed=seed)
    drawn = Counter()
    for batch in planned:
        indices = np.array([index for index, _ in batch]).reshape(4, 3)
        identities = pid[indices]
        assert (identities == identities[:, :1]).all()
        assert len(set(identities[:, 0])) == 4
        drawn.update(indices.ravel().tolist())
    large = np.flatnonzero(np.bincount(pid) >= 3)
    assert all(drawn[i] <= 1 for i in np.flatnonzero(np.isin(pid, large)))  # without replacement


def test_an_epoch_of_equal_identities_leaves_nothing_out():
    planned, pid = sampler([20] * 64, 8, 4)
    assert len(planned) == 40
    assert Counter(i for batch in planned for i, _ in batch) == Counter(range(len(pid)))


def test_small_identities_are_drawn_with_replacement_and_counted():
    planned, pid = sampler([1, 2, 9, 9], 4, 4)
    assert planned.num_short_identities == 2
    (batch, *_) = planned
    assert Counter(pid[index] for index, _ in batch) == {0: 4, 1: 4, 2: 4, 3: 4}


def test_pure_function_of_seed_and_epoch():
    def epoch(seed, number):
        return list(sampler([7] * 6, 2, 3, seed=seed, epoch=number)[0])

    assert epoch(0, 5) == epoch(0, 5)
    assert epoch(0, 5) != epoch(0, 6)
    assert epoch(0, 5) != epoch(1, 5)


def test_the_epoch_is_asked_when_an_iteration_begins():
    number = [0]
    planned = PKSampler(np.repeat(np.arange(6), 7), 2, 3, seed=0, epoch=lambda: number[0])
    first = list(planned)
    number[0] = 1
    assert list(planned) != first
    number[0] = 0
    assert list(planned) == first


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_one_process_epoch(world_size):
    whole, _ = sampler([9] * 10, 4, 3)
    ranks = [sampler([9] * 10, 4, 3, rank=r, world_size=world_size)[0] for r in range(world_size)]
    for batch, *shares in zip(whole, *ranks, strict=True):
        assert {len(share) for share in shares} == {len(batch) // world_size}
        assert sorted(itertools.chain(*shares)) == sorted(batch)


def test_augmentation_seeds_are_all_different():
    planned, _ = sampler([20] * 16, 4, 4)
    seeds = [seed for batch in planned for _, seed in batch]
    assert len(set(seeds)) == len(seeds)


def test_every_identity_and_order_occurs():
    firsts = {sampler([4] * 5, 2, 4, epoch=e)[0].plan(e)[0][0, 0, 0] for e in range(60)}
    assert len(firsts) > 10  # of 20 images: neither identities nor images are taken in order


@pytest.mark.parametrize(
    ("p", "k", "world_size", "said"),
    [
        (9, 2, 1, "has only 5. Set data.identities_per_batch=5"),
        (0, 2, 1, "at least 1"),
        (2, 0, 1, "at least 1"),
        (3, 2, 2, "multiple of 2"),
    ],
)
def test_impossible_batches_name_the_remedy(p, k, world_size, said):
    with pytest.raises(ConfigError, match=said):
        sampler([4] * 5, p, k, world_size=world_size)
