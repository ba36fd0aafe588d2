"""Compiled kernels for scoring on a CPU: the elementwise work between the matrix products, fused.

`scoring.cpp` repeats a few lines of each layer in C++. `regard compile` builds it once, with torch's own
mechanism for extensions. Without it, or with REGARD_KERNELS=0, the layers compute the same in Python. Scores agree to
1e-5.
"""

import hashlib
import os
import threading
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from regard.files import InputError
from regard.processor import cpu_features

SOURCE = Path(__file__).with_name("scoring.cpp")
SWITCH = "REGARD_KERNELS"  # an environment variable: 0 turns the kernels off
FLAGS = ["-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"]
_lock = threading.Lock()


def in_use() -> bool:
    """Return whether the kernels are built and not turned off."""
    return _loaded() is not None


def fused(*tensors: Tensor) -> Any | None:
    """Return the kernels if they are built and can compute on these tensors; otherwise None.

    They take contiguous float32 tensors on a CPU, and have no gradients.
    """
    if torch.is_grad_enabled() or any(
        t.dtype != torch.float32 or t.device.type != "cpu" or not t.is_contiguous() for t in tensors
    ):
        return None
    return _loaded()


def build() -> Path:
    """Build the kernels for this processor, unless they are built already, and return the file.

    It takes half a minute. Raises InputError if there is no C++ compiler, or if it fails.
    """
    from torch.utils import cpp_extension

    path = library_path()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent) as folder:  # an interrupted build leaves no lock for the next one
            try:
                cpp_extension.load(
                    path.stem,
                    [str(SOURCE)],
                    extra_cflags=FLAGS,
                    extra_ldflags=["-fopenmp"],
                    build_directory=folder,
                    is_python_module=False,
                )
            except (RuntimeError, OSError) as error:
                lines = str(error).splitlines()
                reason = next((line for line in lines if "error:" in line), lines[0])
                raise InputError(
                    f"The kernels cannot be built ({reason}): this requires a C++ compiler and "
                    "ninja. Without kernels, scoring is slower and otherwise the same."
                ) from None
            os.replace(Path(folder) / path.name, path)
    _loaded.cache_clear()
    return path


def library_path() -> Path:
    """Return the file of the kernels for this source, version of torch and processor, whether or not it exists."""
    built_from = [SOURCE.read_text("utf-8"), torch.__version__, *FLAGS, *sorted(cpu_features())]
    name = "scoring_" + hashlib.blake2b("\n".join(built_from).encode(), digest_size=8).hexdigest()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "regard" / f"{name}.so"


@cache
def _loaded() -> Any | None:
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        path = library_path()
    except RuntimeError:  # there is no home folder
        return None
    with _lock:
        if not hasattr(torch.ops.regard, "attention"):
            if not path.exists():
                return None
            torch.ops.load_library(str(path))
    return torch.ops.regard
