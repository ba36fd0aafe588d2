"""Pickled side files of the field, read without running anything that they name.

Python's own containers, strings and numbers come out as themselves, numpy's arrays and scalars through the stand-ins
below, which know their stored form. Whatever else a pickle asks for is refused.
"""

import os
import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from regard.data.rows import read_header
from regard.files import InputError


def read_pickle(path: str | os.PathLike[str]) -> Any:
    """The contents of a pickle, or of a .npy of Python objects (then a list, of the array in C order).

    Raises InputError if it contains anything but containers, strings, numbers and arrays of them.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            if path.suffix == ".npy":
                read_header(file)
            return _plain(_Reader(file).load())
    except FileNotFoundError:
        raise InputError(f"{path} is not there.") from None
    except _Refused as error:
        raise InputError(
            f"{path} is a pickle that asks for {error}, which could run code: refused. "
            f"Save it again as plain numbers (.npy) or as JSON."
        ) from None
    except (pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError) as error:
        raise InputError(f"{path} is no whole pickle ({error}). Copy it again.") from None


class _Refused(Exception):
    pass


class _Dtype:
    """What a pickled numpy.dtype says: a kind and size, and a byte order. Structured dtypes are refused."""

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r"[biufSUO]\d*", code):
            raise _Refused(f"a numpy dtype {code!r}")
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype:
        return np.dtype(self.code if self.order == "|" else self.order + self.code)


class _Array:
    """What a pickled numpy.ndarray says."""

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


def _bytes(content: str | bytes) -> bytes:  # Python 2 wrote bytes as what Python 3 reads as latin-1 text
    return content.encode("latin1") if isinstance(content, str) else content


_KNOWN: dict[tuple[str, str], Any] = {("_codecs", "encode"): lambda text, _: _bytes(text)}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _KNOWN[_module, "_reconstruct"] = _Array
    _KNOWN[_module, "scalar"] = _scalar
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _KNOWN[_module, "_frombuffer"] = _in_band
_KNOWN["numpy", "ndarray"] = _Array
_KNOWN["numpy", "dtype"] = _Dtype


class _Reader(pickle.Unpickler):
    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise _Refused(f"{module}.{name}")
        return _KNOWN[module, name]


def _plain(value: Any) -> Any:
    """The value with its stand-ins replaced by what they stand for."""
    if isinstance(value, _Array):
        return _plain(value.value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return type(value)(map(_plain, value))
    return value
