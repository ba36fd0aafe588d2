"""Disk -> Split: the layouts people have, the one compact form, and what is wrong with either."""

from regard.data.check import check
from regard.data.convert import convert
from regard.data.split import Split

__all__ = ["Split", "check", "convert"]
