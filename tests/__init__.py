"""Mirrors `ccreid/`; ccreid is imported first because it makes torchvision importable."""

import ccreid  # noqa: F401
