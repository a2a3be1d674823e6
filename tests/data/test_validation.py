import pytest

from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.validation import HeldOut
from ccreid.errors import ConfigError


@pytest.fixture(scope="module")
def benchmark():
    return Virtual()


def test_people_are_either_trained_on_or_held_out(benchmark):
    held_out = HeldOut(benchmark, 0.25)
    trained = {s.pid for s in held_out.train}
    asked = {s.pid for s in held_out.query}
    assert len(trained) == 48
    assert len(asked) == 16
    assert not trained & asked
    everything = [*held_out.train, *held_out.query, *held_out.gallery]
    assert sorted(s.path for s in everything) == sorted(s.path for s in benchmark.train)
    assert {s.pid for s in held_out.gallery} == asked


def test_every_protocol_has_an_answer(benchmark):
    held_out = HeldOut(benchmark, 0.25)
    assert [p.name for p in held_out.protocols] == ["general", "sc", "cc"]
    for protocol in held_out.protocols:
        unanswerable, total = protocol.num_queries_without_match(held_out.query, held_out.gallery)
        assert unanswerable < total


@pytest.mark.parametrize("share", [0.001, 0, 1])
def test_a_share_that_leaves_nobody_is_refused(benchmark, share):
    with pytest.raises(ConfigError, match="validation_people"):
        HeldOut(benchmark, share)
