"""Data folders: the layouts in use, the compact layout, and checks of both. Files on disk become a Split."""

from regard.data.check import check
from regard.data.convert import convert
from regard.data.split import Split

__all__ = ["Split", "check", "convert"]
