"""Checks of a benchmark's files, lists and protocols against what was published."""

from ccreid.data.verification.checks import (
    CountCheck,
    ProtocolCheck,
    Verification,
    verify_benchmark,
)

__all__ = ["CountCheck", "ProtocolCheck", "Verification", "verify_benchmark"]
