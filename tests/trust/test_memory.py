"""Memory is bounded by construction: what an evaluation takes beyond its features."""

import os
import subprocess
import sys

import pytest

RANKING = """
import torch
from ccreid.retrieval import rank_features
G, Q, D = 200_000, 1_000, 32
features = torch.randn(G, D, generator=torch.Generator().manual_seed(0))
ids = torch.arange(G) % 5_000
cameras = torch.arange(G) % 7
query = slice(0, Q)

def work():
    results = rank_features(
        features[query], features, query_pid=ids[query], gallery_pid=ids,
        query_camid=cameras[query], gallery_camid=cameras,
    )
    assert results.num_queries == Q and results.valid.all()
"""

# A picture is made when it is asked for: all 2,000 together are 750 MiB of float32.
EXTRACTION = """
import numpy as np
import torch
from PIL import Image
from ccreid.data.sample import Sample
from ccreid.data.transforms import TestTransform
from ccreid.features import extract_features

def read(path):
    return Image.new("RGB", (128, 256), (int(path) % 256, 0, 0))

def work():
    features = extract_features(
        lambda images: images[:, :, 0, 0], [Sample(str(n), n) for n in range(2_000)],
        TestTransform(256, 128), device=torch.device("cpu"), batch_size=32, read=read,
    )
    assert (features[:, 0] * 255).round().tolist() == [n % 256 for n in range(2_000)]
"""

MEASURE = """
import re
import ccreid
{work}
# Of this process alone: ru_maxrss begins at the peak of the one that started it.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 2**10
before = peak()
work()
print(peak() - before)
"""


def rise_in_mib(work: str) -> float:
    """Run `work()` in a process of its own; return how far its peak memory rose."""
    process = subprocess.run(
        [sys.executable, "-c", MEASURE.format(work=work)],
        capture_output=True,
        text=True,
        timeout=250,
        env=os.environ | {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"},
    )
    assert process.returncode == 0, process.stderr
    return float(process.stdout.split()[-1])


HOG = """
def work():
    hog = bytearray(400 * 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_peak_is_seen():
    bytearray(500 * 2**20)  # more than the other process will have
    assert 380 < rise_in_mib(HOG) < 450


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize(("work", "ceiling"), [(RANKING, 300), (EXTRACTION, 200)])
def test_the_peak_stays_below_its_ceiling(work, ceiling):
    """Distances of all pairs would be 763 MiB, the images of all samples 750 MiB.

    The features of the second are views of their images, which they must not keep.
    """
    assert rise_in_mib(work) < ceiling
