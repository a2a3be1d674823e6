"""Human-parsing masks: where they lie, what their labels mean, and one store that gives them."""

from ccreid.data.parsing.report import ParsingReport
from ccreid.data.parsing.schemas import CANONICAL_LABELS
from ccreid.data.parsing.store import ParsingStore

__all__ = ["CANONICAL_LABELS", "ParsingReport", "ParsingStore"]
