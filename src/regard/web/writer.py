"""Changes of the collection: one at a time, each in one transaction of the index."""

import hashlib
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from regard.files import InputError, replacing
from regard.search.index import Index
from regard.web.pictures import check_upload
from regard.web.problem import Problem
from regard.web.settings import Settings

MAX_WAITING = 4


class Writer:
    """Adds and removes pictures. Changes wait for each other; more than a few are refused."""

    def __init__(self, index: Index, settings: Settings) -> None:
        self.index, self.settings = index, settings
        self.uploads = index.folder / "uploads"  # each picture in a folder of its own, named by the hash of its bytes
        self._lock, self._room = threading.Lock(), threading.Semaphore(MAX_WAITING)

    def add(self, data: bytes, suffix: str) -> tuple[str, bool]:
        """Add a picture. Return its id, and whether it is new.

        Raises Problem if the picture is not accepted (413, 415, 422) or the collection cannot take it (409, 429).
        """
        check_upload(data, suffix, self.settings)
        digest = hashlib.sha256(data).hexdigest()[:32]
        folder, name = self.uploads / digest, digest + suffix
        with self._turn():
            is_new = not folder.exists()  # otherwise the collection may have the picture already
            if is_new:
                with replacing(folder) as temporary:
                    temporary.mkdir(parents=True)
                    (temporary / name).write_bytes(data)
            try:
                report = self.index.add(folder)
            except BaseException:
                if is_new:
                    shutil.rmtree(folder)
                raise
            return self.index.item(name).id, report.added > 0

    def remove(self, id_: str) -> None:
        """Remove a picture, and its file if it was uploaded. Raises Problem if the collection cannot (409, 429)."""
        with self._turn():
            ids = self.index.item(id_).ids
            self.index.remove([id_])
            for name in ids:
                folder = self.uploads / name.partition(".")[0]
                if folder.parent == self.uploads and (folder / name).is_file():
                    shutil.rmtree(folder)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._room.acquire(blocking=False):
            raise Problem(429, "Other changes of the collection are waiting: try again later.", {"Retry-After": "5"})
        try:
            with self._lock:
                yield
        except InputError as error:
            raise Problem(409, str(error)) from None
        finally:
            self._room.release()
