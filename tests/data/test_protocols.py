import numpy as np
import pytest

from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample, contiguous_labels, manifest

QUERY = [Sample("q0", 1, 0, 10), Sample("q1", 2, 1, 20), Sample("q2", 9, 0, 90)]
GALLERY = [Sample("g0", 1, 0, 10), Sample("g1", 1, 1, 10), Sample("g2", 2, 2, 21)]


@pytest.mark.parametrize(
    ("rule", "unanswerable"),
    [("standard", 1), ("sc", 2), ("cc", 2), ("none", 1)],
    # person 9 is never there; person 1 changes nothing, person 2 always changes
)
def test_counts_queries_without_match(rule, unanswerable):
    protocol = Protocol("x", rule=rule)
    assert protocol.num_queries_without_match(QUERY, GALLERY) == (unanswerable, 3)


def test_camera_subsets_select_both_sides():
    protocol = Protocol("x", query_cameras=frozenset({0}), gallery_cameras=frozenset({1, 2}))
    assert protocol.select_query(QUERY).tolist() == [0, 2]
    assert protocol.select_galleries(GALLERY)[0].tolist() == [1, 2]
    assert protocol.ranking_ids(QUERY, GALLERY)["gallery_pid"].tolist() == [1, 2]


def test_another_id_can_play_the_camera():
    samples = [Sample("a", 1, camid=3, tracklet_id=77)]
    ids = Protocol("x", camera="tracklet_id").ranking_ids(samples, samples)
    assert ids["query_camid"].tolist() == [77]


def test_prints_its_rule_in_one_line():
    text = str(Protocol("cc", query_cameras=frozenset({2}), gallery_cameras=frozenset({0})))
    assert text.startswith("cc: query cameras 2, gallery cameras 0; ")
    assert "\n" not in text


def test_names_the_tracklet_where_it_plays_the_camera():
    assert "same tracklet" in str(Protocol("general", camera="tracklet_id"))
    assert "same camera" in str(Protocol("general"))


def test_contiguous_labels_keep_order_and_leave_unlabelled_alone():
    labels = contiguous_labels(np.array([7, -1, 3, 7, 2**40]))
    assert labels.tolist() == [1, -1, 0, 1, 2]


def test_manifest_sees_order_and_ids_but_not_the_folder():
    here = [Sample("/a/x.jpg", 1), Sample("/a/y.jpg", 2)]
    there = [Sample("/b/x.jpg", 1), Sample("/b/y.jpg", 2)]
    assert manifest(here) == manifest(there)
    assert manifest(here) != manifest(here[::-1])
    assert manifest(here) != manifest([Sample("/a/x.jpg", 1), Sample("/a/y.jpg", 3)])
