"""Pictures drawn from results."""

from ccreid.viz.ranked_lists import draw_ranked_lists

__all__ = ["draw_ranked_lists"]
