"""Read pickled side files of published data sets without running any code that they name.

Containers, strings and numbers of Python are read as themselves. Arrays and scalars of numpy are read through the
stand-ins below, which know the stored form. Everything else is refused.
"""

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from regard.data.rows import read_header
from regard.files import InputError


def read_pickle(path: str | os.PathLike[str]) -> Any:
    """Return the contents of a pickle, or of a .npy file of Python objects (then as a list, in C order).

    Raises InputError if it contains anything but containers, strings, numbers and arrays of them.
    """
    return _read(Path(path), _KNOWN)


def read_instance(path: str | os.PathLike[str], name: str) -> dict[str, Any]:
    """Return the attributes of the pickled instance of a class called `name`, of any module; or a pickled dictionary.

    Neither the class nor its module is imported. Raises InputError if it contains anything that `read_pickle` refuses.
    """
    found = _read(Path(path), _StandIns(name))
    if not isinstance(found, dict):
        raise InputError(f"{path} is the pickle of a {type(found).__name__}: expected that of a {name}.")
    return found


def _read(path: Path, known: Mapping[tuple[str, str], Any]) -> Any:
    try:
        with open(path, "rb") as file:
            if path.suffix == ".npy":
                read_header(file)
            return _plain(_Reader(file, known).load())
    except FileNotFoundError:
        raise InputError(f"{path} is not there.") from None
    except _Refused as error:
        raise InputError(
            f"{path} is a pickle that names {error}, which could run code, so it is not read. "
            f"Save it again as plain numbers (.npy) or as JSON."
        ) from None
    except _DAMAGED as error:
        raise InputError(f"{path} is not a complete pickle ({error}). Copy it again.") from None


class _Refused(Exception):
    pass


# What unpickling raises for a damaged file, of which changed lengths may ask for any memory.
_DAMAGED = (
    pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, RecursionError,
    MemoryError, OverflowError,
)  # fmt: skip


class _Dtype:
    """A pickled numpy.dtype: kind, size and byte order. Structured dtypes are refused."""

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r"[biufSUO]\d*", code):
            raise _Refused(f"a numpy dtype {code!r}")
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype:
        return np.dtype(self.code if self.order == "|" else self.order + self.code)


class _Array:
    """A pickled numpy.ndarray."""

    def __init__(self, *_: Any) -> None:
        self.value: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        if kind.code.startswith("O"):
            self.value = list(content)
        else:
            order: Any = "F" if fortran else "C"
            self.value = np.frombuffer(_bytes(content), kind.dtype()).reshape(shape, order=order)


def _in_band(content: bytes | bytearray, kind: _Dtype, shape: tuple[int, ...], order: Any, *_: Any) -> _Array:
    array = _Array()
    array.value = np.frombuffer(content, kind.dtype()).reshape(shape, order=order)
    return array


def _scalar(kind: _Dtype, content: Any) -> Any:
    return np.frombuffer(_bytes(content), kind.dtype())[0].item()


def _bytes(content: str | bytes) -> bytes:  # bytes of Python 2, which Python 3 reads as latin-1 text
    return content.encode("latin1") if isinstance(content, str) else content


_KNOWN: dict[tuple[str, str], Any] = {("_codecs", "encode"): lambda text, _: _bytes(text)}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _KNOWN[_module, "_reconstruct"] = _Array
    _KNOWN[_module, "scalar"] = _scalar
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _KNOWN[_module, "_frombuffer"] = _in_band
_KNOWN["numpy", "ndarray"] = _Array
_KNOWN["numpy", "dtype"] = _Dtype


class _Instance:
    """Stands for an instance of any class: its attributes."""


class _StandIns(dict[tuple[str, str], Any]):
    """What is known, and a class called `name` in any module, whose instances become `_Instance`."""

    def __init__(self, name: str) -> None:
        super().__init__(_KNOWN)
        self.name = name
        for module in ("copy_reg", "copyreg"):  # of Python 2 and 3
            self[module, "_reconstructor"] = lambda instance, *_: instance()
        for module in ("__builtin__", "builtins"):
            self[module, "object"] = object

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or (isinstance(key, tuple) and key[1] == self.name)

    def __missing__(self, key: tuple[str, str]) -> Any:
        return _Instance


class _Reader(pickle.Unpickler):
    def __init__(self, file: BinaryIO, known: Mapping[tuple[str, str], Any]) -> None:
        super().__init__(file, encoding="latin1")
        self.known = known

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.known:
            raise _Refused(f"{module}.{name}")
        return self.known[module, name]


def _plain(value: Any) -> Any:
    """The value with its stand-ins replaced by the values that they stand for."""
    if isinstance(value, _Array):
        return _plain(value.value)
    if isinstance(value, _Instance):
        return _plain(vars(value))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return type(value)(map(_plain, value))
    return value
