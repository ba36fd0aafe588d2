"""What the processor can do, read from its features and never timed, so that every process decides the same."""

import platform
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

CPUINFO = Path("/proc/cpuinfo")
BFLOAT16 = {  # the names of a CPU's features, by Linux and by torch
    "amx_bf16": "AMX instructions",
    "avx512_bf16": "AVX-512 bfloat16 instructions",
    "bf16": "Arm bfloat16 instructions",
    "svebf16": "Arm bfloat16 instructions",
    "sve_bf16": "Arm bfloat16 instructions",
}


def bfloat16_units(device: str) -> str:
    """Return a name of the units of `device` ("cpu" or "cuda") that multiply bfloat16; empty if it has none."""
    if device == "cuda":
        return "bfloat16 tensor cores" if torch.cuda.is_bf16_supported(including_emulation=False) else ""
    features = cpu_features()
    return next((name for feature, name in BFLOAT16.items() if feature in features), "")


def cpu_name() -> str:
    """Return the name of the CPU, such as "AMD EPYC 9B45", or that of its architecture if the system gives no other."""
    with suppress(OSError):
        for line in CPUINFO.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def cpu_features() -> frozenset[str]:
    """Return the names of the CPU's features, such as avx2, and of its vendor, such as authenticamd, in lower case."""
    # Linux names only the features that programs may use: a virtual machine or an old kernel may withhold AMX.
    with suppress(OSError):
        found = _linux_features(CPUINFO.read_text("utf-8", "replace"))
        if found:
            return found
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()  # missing in older versions of torch
    names = {name for name, value in capabilities.items() if value is True}
    return frozenset({*names, *platform.processor().lower().replace(",", " ").split()})


def _linux_features(text: str) -> frozenset[str]:
    """The features of the first core in the text of /proc/cpuinfo. x86 lists flags, and Arm lists Features."""
    core = [line.partition(":") for line in text.split("\n\n")[0].splitlines()]
    keys = ("flags", "Features", "vendor_id")
    return frozenset(word.lower() for key, _, words in core if key.strip() in keys for word in words.split())


def mkl_is_slow() -> bool:
    """Return whether MKL uses only half of the width of this CPU's units: on AMD with AVX-512, MKL uses AVX2."""
    features = cpu_features()
    return "authenticamd" in features and bool(features & {"avx512f", "avx512_f"})
