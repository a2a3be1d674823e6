"""Makes torchvision importable beside a CPU-only torch.

The package index serves torchvision as a CUDA build. Beside a CPU build of torch its compiled
operators cannot be loaded, and `import torchvision` (hence timm, Lightning and torchmetrics) stops
at "operator torchvision::nms does not exist". Declaring the two operators that torchvision
describes at import is enough for everything but `ops.nms` and `io.decode_*`, which we do not use.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_declared: list[object] = []  # a torch.library.Library un-declares its operators when collected


class _TorchvisionFinder(MetaPathFinder):
    """Runs the remedy once, right before torchvision is imported for the first time."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "torchvision":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            _load_or_declare_operators(Path(spec.origin).parent)
        return spec


def mend_torchvision() -> None:
    """Installs the remedy for the first import of torchvision; costs nothing until then."""
    installed = any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path)
    if "torchvision" not in sys.modules and not installed:
        sys.meta_path.insert(0, _TorchvisionFinder())


def _load_or_declare_operators(package: Path) -> None:
    import torch

    try:
        for library in sorted(package.glob("_C*.so")):
            torch.ops.load_library(str(library))
    except OSError:
        operators = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(operators)
