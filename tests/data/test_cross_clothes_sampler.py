import itertools
from collections import Counter

import numpy as np
import pytest

from ccreid.data.outfit_sampler import CrossClothesPKSampler
from ccreid.data.samplers import PKSampler
from ccreid.errors import ConfigError


def people(wardrobes):
    """Identity and outfit of every image, shuffled; a wardrobe lists the images of each outfit."""
    pid, clothes = [], []
    for person, wardrobe in enumerate(wardrobes):
        for outfit, images in enumerate(wardrobe):
            pid += [person] * images
            clothes += [100 * person + outfit] * images
    order = np.random.default_rng(1).permutation(len(pid))
    return np.array(pid)[order], np.array(clothes)[order]


def sampler(wardrobes, p, k, seed=0, epoch=0, **settings):
    pid, clothes = people(wardrobes)
    planned = CrossClothesPKSampler(pid, clothes, p, k, seed=seed, epoch=lambda: epoch, **settings)
    return planned, pid, clothes


def draws(planned, k):
    """All draws of an epoch, [draws, K] image positions."""
    return np.array([[index for index, _ in batch] for batch in planned]).reshape(-1, k)


@pytest.mark.parametrize(
    ("wardrobe", "k", "most", "expected"),
    [
        ([30, 20], 8, 4, [4, 4]),  # PRCC
        ([9, 9, 9, 9], 4, 4, [1, 1, 1, 1]),
        ([9] * 6, 8, 4, [2, 2, 2, 2]),
        ([9, 9, 9], 8, 4, [2, 3, 3]),
        ([9, 9, 9], 8, 2, [4, 4]),
        ([40], 8, 4, [8]),
        ([9, 9, 9], 2, 4, [1, 1]),
        ([1, 40], 8, 4, [4, 4]),
    ],
)
def test_a_draw_is_spread_evenly_over_outfits(wardrobe, k, most, expected):
    planned, pid, clothes = sampler([wardrobe] * 3, 2, k, outfits_per_identity=most)
    for draw in draws(planned, k):
        assert len(set(pid[draw])) == 1
        assert sorted(Counter(clothes[draw]).values()) == expected


@pytest.mark.parametrize("seed", range(5))
def test_a_draw_repeats_images_of_outfits_smaller_than_their_share_only(seed):
    rng = np.random.default_rng(seed)
    wardrobes = [rng.integers(1, 9, size=rng.integers(1, 6)).tolist() for _ in range(8)]
    planned, _, clothes = sampler(wardrobes, 3, 6, seed=seed)
    size = Counter(clothes.tolist())
    for draw in draws(planned, 6):
        share = Counter(clothes[draw].tolist())
        for image, times in Counter(draw.tolist()).items():
            outfit = clothes[image]
            assert times <= -(-share[outfit] // size[outfit])


def test_images_and_outfits_come_round_evenly():
    planned, pid, clothes = sampler([[7, 20, 13, 5, 3], [7, 20, 13, 5, 3]], 1, 4)
    drawn = draws(planned, 4)
    for person in (0, 1):
        own = drawn[pid[drawn[:, 0]] == person]
        outfits = Counter(clothes[own].ravel().tolist())
        assert max(outfits.values()) - min(outfits.values()) <= 1
        for outfit in outfits:
            times = Counter(own[clothes[own] == outfit].tolist())
            times = [times[image] for image in np.flatnonzero(clothes == outfit)]
            assert max(times) - min(times) <= 1


def test_equal_wardrobes_leave_nothing_out():
    planned, pid, _ = sampler([[5] * 4] * 16, 8, 4)  # virtual
    assert Counter(draws(planned, 4).ravel().tolist()) == Counter(range(len(pid)))


def test_epochs_are_as_long_as_the_pk_samplers_and_batches_hold_distinct_people():
    rng = np.random.default_rng(0)
    wardrobes = [rng.integers(1, 12, size=rng.integers(1, 5)).tolist() for _ in range(12)]
    planned, pid, _ = sampler(wardrobes, 4, 4)
    plain = PKSampler(pid, 4, 4, seed=0, epoch=lambda: 0)
    assert len(planned) == len(plain) == len(list(planned))
    for batch in planned:
        identities = pid[[index for index, _ in batch]].reshape(4, 4)
        assert len(set(identities[:, 0])) == 4


def test_pure_function_of_seed_and_epoch():
    def epoch(seed, number):
        return list(sampler([[7, 5, 3]] * 6, 2, 3, seed=seed, epoch=number)[0])

    assert epoch(0, 5) == epoch(0, 5)
    assert epoch(0, 5) != epoch(0, 6)
    assert epoch(0, 5) != epoch(1, 5)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_one_process_epoch(world_size):
    whole = list(sampler([[4, 5]] * 10, 4, 3)[0])
    ranks = [
        list(sampler([[4, 5]] * 10, 4, 3, rank=r, world_size=world_size)[0])
        for r in range(world_size)
    ]
    for batch, *shares in zip(whole, *ranks, strict=True):
        assert sorted(itertools.chain(*shares)) == sorted(batch)


def test_single_outfits_are_counted_and_unlabelled_images_are_one_outfit():
    planned, _, _ = sampler([[5], [3, 4], [9]], 2, 4)
    assert planned.num_single_outfit_identities == 2
    pid = np.repeat([0, 1], 8)
    unlabelled = CrossClothesPKSampler(
        pid, np.full(16, -1), 2, 4, seed=0, epoch=lambda: 0, outfits_per_identity=4
    )
    assert unlabelled.num_single_outfit_identities == 2
    assert len(set(draws(unlabelled, 4).ravel().tolist())) == 16


def test_impossible_settings_name_the_remedy():
    with pytest.raises(ConfigError, match=r"data.outfits_per_identity=0 should be at least 1"):
        sampler([[5, 5]] * 3, 2, 4, outfits_per_identity=0)
    with pytest.raises(ConfigError, match=r"has only 3. Set data.identities_per_batch=3"):
        sampler([[5, 5]] * 3, 4, 4)
