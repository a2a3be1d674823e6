"""ccreid: cloth-changing person re-identification with PyTorch Lightning.

`import ccreid` is light: it neither imports torch nor reads a file beyond the package's own.
"""

from ccreid._compat import mend_torchvision
from ccreid.config import list_benchmarks, list_methods

mend_torchvision()

__version__ = "0.1.0"
__all__ = ["__version__", "list_benchmarks", "list_methods"]
