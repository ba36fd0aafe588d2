"""Pictures that leave the server, and pictures that enter it. EXIF data and other metadata never leave."""

import hashlib
import io
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from regard.files import InputError
from regard.photographs import decode_photograph, identify_photograph
from regard.web.problem import Problem
from regard.web.settings import Settings

SUFFIX_OF_TYPE = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/bmp": ".bmp",
    "image/tiff": ".tif",
    "image/avif": ".avif",
}


def encode_jpeg(path: Path, side: int) -> bytes:
    """Decode a picture, scale its longer side down to `side`, and return it as a JPEG without metadata."""
    image, _ = decode_photograph(path.name, path.read_bytes(), side)
    file = io.BytesIO()
    Image.frombytes("RGB", image.size, image.tobytes()).save(file, "JPEG", quality=87, optimize=True)
    return file.getvalue()


class PictureCache:
    """Re-encoded pictures, the most recent ones in memory."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._pictures: OrderedDict[tuple[str, int, int, int], bytes] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def jpeg(self, path: Path, side: int) -> tuple[bytes, str]:
        """Return the picture at `path` as a JPEG, and its entity tag. Raises InputError if it cannot be decoded."""
        status = path.stat()
        key = (str(path), status.st_mtime_ns, status.st_size, side)
        tag = f'"{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}"'
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
                return self._pictures[key], tag
        data = encode_jpeg(path, side)
        with self._lock:
            if key not in self._pictures:
                self._pictures[key] = data
                self._bytes += len(data)
            while self._bytes > self.max_bytes:
                self._bytes -= len(self._pictures.popitem(last=False)[1])
        return data, tag


def check_content_type(content_type: str) -> str:
    """Return the suffix of files of a content type. Raises Problem unless it is one of pictures."""
    name = content_type.partition(";")[0].strip().lower()
    if name not in SUFFIX_OF_TYPE:
        given = f"got {name!r}" if name else "got none"
        raise Problem(415, f"Content-Type: expected one of {', '.join(SUFFIX_OF_TYPE)}, {given}.")
    return SUFFIX_OF_TYPE[name]


def check_upload(data: bytes, suffix: str, settings: Settings) -> None:
    """Raise Problem unless `data` is a whole picture of the declared format, within the limit of pixels."""
    try:
        content_type, (width, height) = identify_photograph("The picture", data)
        if width * height > settings.upload_pixels:
            limit = settings.upload_pixels // 10**6
            raise Problem(413, f"The picture has {width} x {height} pixels: expected at most {limit} million.")
        if SUFFIX_OF_TYPE.get(content_type) != suffix:
            declared = next(name for name, known in SUFFIX_OF_TYPE.items() if known == suffix)
            raise Problem(415, f"Content-Type is {declared}, but the picture is {content_type or 'of another format'}.")
        decode_photograph("The picture", data)
    except InputError as error:
        raise Problem(422, str(error)) from None
