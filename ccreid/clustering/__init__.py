"""Fine-grained labels inside every identity: neighbours, Jaccard distance, clusters, statistics."""

from ccreid.clustering.fine_grained import fine_grained_labels
from ccreid.clustering.jaccard import jaccard_distance
from ccreid.clustering.neighbours import nearest_neighbours
from ccreid.clustering.statistics import cluster_statistics

__all__ = ["cluster_statistics", "fine_grained_labels", "jaccard_distance", "nearest_neighbours"]
