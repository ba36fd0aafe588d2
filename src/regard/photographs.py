"""List the photographs of a folder, and decode a file to an upright RGB image."""

import io
import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from regard.files import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif", ".gif", ".bmp", ".tif", ".tiff")
HEIF = (".heic", ".heif")
MAX_PIXELS = 180_000_000  # of a decoded image; JPEGs are scaled down while they are decoded, so they may be far larger
LIMIT = f"expected at most {MAX_PIXELS // 10**6} million, unless it is a JPEG. Scale it down."
DRAWN_SIDE = 1440  # pixels of the longer side of a photograph that is drawn; larger ones are scaled down
ORIENTATION = 0x0112  # EXIF tags
ROTATED = range(5, 9)  # values of ORIENTATION; other values than 1 to 8 mean nothing
EXIF_FOLDER, TIME_TAKEN = 0x8769, 0x9003


def list_photographs(folder: str | os.PathLike[str]) -> list[str]:
    """List the photographs under a folder: sorted paths relative to the folder, with "/" as separator.

    Symbolic links are followed, except in loops. Hidden files and folders are skipped. A folder without read permission
    is listed with a "/" at the end. Raises InputError if the folder does not exist or contains no photographs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: expected the folder that contains the photographs.")
    names = sorted(_walk(folder, "", frozenset()))
    if "" in names:
        raise InputError(f"{folder} is a folder without read permission.")
    if not names:
        raise InputError(
            f"{folder} contains no photographs: expected files that end in {', '.join(SUFFIXES[:5])} and so on."
        )
    return names


def _walk(folder: Path, prefix: str, parents: frozenset[str]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in parents:
        return
    try:
        entries = list(os.scandir(folder))
    except PermissionError:
        yield prefix  # so that the caller can report it
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if os.path.isdir(entry.path):  # unlike entry.is_dir(), False for a link to itself
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", parents | {real})
        elif entry.name.lower().endswith(SUFFIXES):
            yield prefix + entry.name


def find_photograph_named(folder: Path, name: str, *, follows_links: bool = False) -> Path | None:
    """Return the path of `name`, or of `name` with a suffix of photographs, in a folder; None if it is not there.

    Names are read from data folders, so a name that leads out of the folder is not there: an absolute path, one with
    "..", or a link to another place. `follows_links` also returns the last, as `list_photographs` does.
    """
    inside = os.path.abspath if follows_links else os.path.realpath
    paths = (folder / f"{name}{suffix}" for suffix in ("", *SUFFIXES, *map(str.upper, SUFFIXES)))
    found = (path for path in paths if os.path.isfile(path))  # unlike Path.is_file, False for a name that is too long
    return next((path for path in found if Path(inside(path)).is_relative_to(inside(folder))), None)


def load_photograph(photograph: Image.Image | str | os.PathLike[str] | None) -> Image.Image | None:
    """Read a photograph upright, scaled to DRAWN_SIDE, if a path is given; return an image or None unchanged.

    Raises InputError if it cannot be read.
    """
    if not isinstance(photograph, str | os.PathLike):
        return photograph
    try:
        data = Path(photograph).read_bytes()
    except OSError as error:
        raise InputError(f"The photograph {photograph} cannot be read: {error}.") from error
    return decode_photograph(f"The photograph {photograph}", data, DRAWN_SIDE)[0]


def aspect_of(photograph: Image.Image | None, otherwise: float) -> float:
    """Return the width of an image divided by its height, or `otherwise` if there is no image."""
    return otherwise if photograph is None else photograph.width / photograph.height


def decode_photograph(name: str, data: bytes, side: int = 0) -> tuple[Image.Image, tuple[int, int]]:
    """Decode the bytes of a file to an upright RGB image. Return the image, and its width and height before scaling.

    If `side` is not 0, a larger image is scaled down to a longer side of `side` pixels. The image is rotated as its
    EXIF orientation says. Transparent pixels become white, of an animation the first frame is used, and 16 bits are
    scaled to 8. `name` is the file to name in errors. Raises InputError if the image cannot be decoded.
    """
    if not data:
        raise InputError(f"{name} is empty: copy it again.")
    try:
        with _open(name, data) as image:
            size = image.size
            if side and max(size) > side:
                image.draft("RGB", _within(size, side))
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{name} has {size[0]} x {size[1]} pixels: {LIMIT}")
            upright = ImageOps.exif_transpose(image)
            is_rotated = image.getexif().get(ORIENTATION, 1) in ROTATED  # by 90 degrees: width and height are swapped
            photograph = _rgb(upright)
            if side and max(photograph.size) > side:
                smaller = _within(photograph.size, side)
                photograph = photograph.resize(smaller, Image.Resampling.BILINEAR, reducing_gap=2.0)
    except InputError:
        raise
    except Image.DecompressionBombError:  # a few plugins of Pillow apply its limit themselves
        raise InputError(f"{name} has too many pixels: {LIMIT}") from None
    except MemoryError:
        raise InputError(f"{name} does not fit into the free memory: scale it down.") from None
    except Exception as error:  # decoders raise exceptions of many types for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        if "cannot identify image file" in reason:
            reason = "it is not an image of a known format"
        raise InputError(f"{name} cannot be read: {reason}.") from None
    return photograph, (size[::-1] if is_rotated else size)


def time_taken(path: Path) -> str | None:
    """Return the time at which a photograph was taken, as `2024-06-30 17:05:00`; None if its EXIF data do not say."""
    with suppress(Exception):  # damaged metadata are of many kinds, and do not matter
        with _open(path.name, path.read_bytes()) as image:
            text = str(image.getexif().get_ifd(EXIF_FOLDER).get(TIME_TAKEN, ""))
        if re.fullmatch(r"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d", text):
            return text.replace(":", "-", 2)
    return None


def identify_photograph(name: str, data: bytes) -> tuple[str, tuple[int, int]]:
    """Return the content type of an image ("" if unknown) and its width and height in the file, without decoding it.

    Raises InputError if it is not an image.
    """
    try:
        with _open(name, data) as image:
            return Image.MIME.get(image.format or "", ""), image.size
    except InputError:
        raise
    except Exception:  # decoders raise exceptions of many types for damaged files
        raise InputError(f"{name} is not an image of a known format.") from None


def _open(name: str, data: bytes) -> Image.Image:
    """Open an image without decoding it.

    As `Image.open`, but without its limit, which counts the pixels in the file; MAX_PIXELS counts those in memory. The
    limit can be lifted for the whole process only, so the plugins are called directly.
    """
    is_heif = name.lower().endswith(HEIF)
    if is_heif and data[4:8] == b"ftyp" and not data[8:12].startswith(b"avi"):
        return _open_heif(name, data)
    tried: set[str] = set()
    for load_plugins in (Image.preinit, Image.init):  # the common formats, then all
        load_plugins()
        for form in [form for form in Image.ID if form not in tried]:
            tried.add(form)
            factory, accept = Image.OPEN[form]
            try:
                is_accepted = accept is None or accept(data[:16])
                if is_accepted and not isinstance(is_accepted, str):  # a text says why the plugin cannot be used
                    return factory(io.BytesIO(data), "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue  # another format
    if is_heif:  # damaged, or of an unusual kind
        return _open_heif(name, data)
    raise UnidentifiedImageError("cannot identify image file")


def _within(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):  # more than 8 bits per pixel, which Pillow would clip
        values = np.asarray(image, np.float32)
        largest = values.max(initial=0)
        is_deep = largest > 255 or image.mode.startswith("I;16")
        white = 65535.0 if is_deep else 255.0 if largest > 1 or image.mode[0] == "I" else 1.0
        return Image.fromarray((values.clip(0, white) * (255 / white)).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(background, image).convert("RGB")
    return image.convert("RGB")


def _open_heif(name: str, data: bytes) -> Image.Image:
    """Open with a HEIC library, without registering it with Pillow for the whole process.

    Regard does not require such a library because of the decoders' licences.
    """
    for library in ("pi_heif", "pillow_heif"):
        with suppress(ImportError):
            image: Image.Image = import_module(library).HeifImageFile(io.BytesIO(data), "")
            return image
    raise InputError(f"{name} is a HEIC file, which needs another library: pip install pi-heif.")
