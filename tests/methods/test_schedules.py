import pytest
import torch

from ccreid.errors import ConfigError
from ccreid.methods.schedules import warmup_cosine, warmup_multistep

PUBLISHED = [(1, 0.01), (2, 0.109), (10, 0.901), (11, 1.0), (20, 1.0), (21, 0.1), (40, 0.1)]
PUBLISHED += [(41, 0.01), (60, 0.01), (61, 0.001), (80, 0.001)]


def factors(epochs, **settings):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warmup_multistep(optimizer, **settings)
    values = []
    for _ in range(epochs):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def test_the_published_schedule():
    values = factors(80)
    for epoch, factor in PUBLISHED:
        assert values[epoch - 1] == pytest.approx(factor, rel=1e-9), epoch


def test_without_warm_up():
    assert factors(3, warmup_epochs=0, milestones=[2], gamma=0.5) == pytest.approx([1, 1, 0.5])


@pytest.mark.parametrize("setting", ["warmup_lr", "final_factor"])
def test_a_rate_that_would_be_negative_is_refused(setting):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ConfigError, match=rf"method\.scheduler\.{setting}"):
        warmup_cosine(optimizer, **{setting: -1.0})
