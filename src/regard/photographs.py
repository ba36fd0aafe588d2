"""Photographs: which a folder holds, and one file's bytes as an upright RGB image."""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from regard.files import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif", ".gif", ".bmp", ".tif", ".tiff")
HEIF = (".heic", ".heif")
MAX_PIXELS = 180_000_000  # held at once; a JPEG is scaled down while it is decoded, so that far larger ones are read
ORIENTATION = 0x0112  # EXIF's tag
_opening = threading.Lock()


def photographs_in(folder: str | os.PathLike[str]) -> list[str]:
    """The photographs under a folder as paths relative to it, with "/", in order. Links are followed, loops are not.

    Hidden files and folders are left out; a folder that may not be read is there too, with "/" at its end. Raises
    InputError where there is not a folder, or no photograph in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Give the folder that contains the photographs.")
    found = sorted(_walk(folder, "", frozenset()))
    if "" in found:
        raise InputError(f"{folder} may not be read.")
    if not found:
        raise InputError(
            f"{folder} contains no photographs: expected files that end in {', '.join(SUFFIXES[:5])} or the like."
        )
    return found


def _walk(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = list(os.scandir(folder))
    except PermissionError:
        yield prefix  # which cannot be read, and will be told
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", above | {real})
        elif entry.name.lower().endswith(SUFFIXES):
            yield prefix + entry.name


def opened(name: str, data: bytes, side: int = 0) -> tuple[Image.Image, tuple[int, int]]:
    """The file's bytes as an RGB image, upright as its EXIF says, and its true width and height.

    With `side`, an image that is larger is scaled down until its longer side has so many pixels. Transparency lies on
    white, of an animation the first frame counts, 16 bits become 8. Raises InputError if it cannot be read.
    """
    if not data:
        raise InputError(f"{name} is empty: copy it again.")
    if name.lower().endswith(HEIF):
        _learn_heif(name)
    try:
        with _header(data) as image:
            size = image.size
            if side and max(size) > side:
                image.draft("RGB", _within(size, side))
            if image.width * image.height > MAX_PIXELS:
                limit = f"expected at most {MAX_PIXELS // 10**6} million, unless it is a JPEG. Scale it down."
                raise InputError(f"{name} has {size[0]} x {size[1]} pixels: {limit}")
            upright = ImageOps.exif_transpose(image)
            turned = image.getexif().get(ORIENTATION, 1) >= 5  # by a quarter
            photograph = _rgb(upright)
            if side and max(photograph.size) > side:
                smaller = _within(photograph.size, side)
                photograph = photograph.resize(smaller, Image.Resampling.BILINEAR, reducing_gap=2.0)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{name} is too large for the memory that is left: scale it down.") from None
    except Exception as error:  # decoders raise whatever they please on bytes that are no image
        said = " ".join(str(error).split()) or type(error).__name__
        if "cannot identify image file" in said:
            said = "it is no image of a known kind"
        raise InputError(f"{name} cannot be read: {said}.") from None
    return photograph, (size[::-1] if turned else size)


def _header(data: bytes) -> Image.Image:
    """The image, not yet decoded. Pillow's limit goes by the pixels of the file, ours by those in memory."""
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _within(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):  # 16 bits a pixel, which a conversion would clip
        values = np.asarray(image, np.float32)
        highest = values.max(initial=0)
        top = 65535.0 if highest > 255 else 255.0 if highest > 1 or image.mode[0] == "I" else 1.0
        return Image.fromarray((values.clip(0, top) * (255 / top)).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _learn_heif(name: str) -> None:
    """Teach Pillow HEIC, by a library that the user may have: their licences keep them out of Regard's own needs."""
    for library in ("pi_heif", "pillow_heif"):
        with suppress(ImportError):
            return import_module(library).register_heif_opener()
    raise InputError(f"{name} is HEIC, which takes another library: pip install pi-heif.")
