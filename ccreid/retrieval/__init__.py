"""Exact, memory-bounded ranking and the results that metrics, reports and pictures derive from."""

from ccreid.retrieval.ranking import queries_without_match, rank_distances, rank_features
from ccreid.retrieval.results import RepeatedResults, RetrievalResults

__all__ = [
    "RepeatedResults",
    "RetrievalResults",
    "queries_without_match",
    "rank_distances",
    "rank_features",
]
