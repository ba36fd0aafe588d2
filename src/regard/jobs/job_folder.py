"""The folder of a job, `OUT/job/`, on storage that all its machines share.

job.json        what was asked: kind, settings, fingerprint of the inputs, number of parts
part-00000      the result of part 0, written whole or not at all
result.json     written last
cancel          present if the job is to stop
ray.log         what Ray printed
lock            held by the process that runs the job
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.files import InputError, parse_json, replacing, sweep
from regard.lease import is_held, leased

FOLDER, MANIFEST, RESULT, CANCEL = "job", "job.json", "result.json", "cancel"
FORMAT = 1
PART = re.compile(r"part-([0-9]{5,})")
VISIBLE_AFTER = 60.0  # seconds until a file that another machine wrote is seen by all, on a network file system


@dataclass(frozen=True)
class JobStatus:
    """The state of a job."""

    asked: dict[str, Any]  # kind and settings
    parts: int
    finished: int
    state: str  # running, stopped or done


class JobFolder:
    """The state of a job whose results are in the folder `out`."""

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out / FOLDER
        self.check_owned: Callable[[], None] = lambda: None  # raises InputError if another process runs the job

    # The machine that gives out the parts ---------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Run the job during the block. Raises InputError if another process runs it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        message = f"Another process runs the job of {self.out}: wait until it ends, or use `regard job cancel`."
        with leased(self._lock, message) as self.check_owned:
            sweep(self.folder)
            (self.folder / CANCEL).unlink(missing_ok=True)
            yield

    def start(
        self,
        kind: str,
        asked: dict[str, Any],
        inputs: Iterable[str],
        parts: int,
        *,
        renewable: bool = False,
        **notes: Any,
    ) -> dict[str, Any]:
        """Start a job, or continue it, and return the `notes` of its first start.

        The fingerprint of `inputs` and the number of parts must be those of the first start; if the job is `renewable`,
        others begin it again. Raises InputError if the folder is of another job.
        """
        digest = hashlib.sha256("\n".join(inputs).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        asked = {"kind": kind, **asked}
        cut = {"inputs": digest, "parts": parts}
        if (self.folder / MANIFEST).exists():
            earlier = self._manifest()
            before, now = dict(earlier["asked"]), dict(asked)
            if not renewable:
                before, now = before | {name: earlier[name] for name in cut}, now | cut
            if changed := [name for name in now if before.get(name) != now[name]]:
                was, is_ = before.get(changed[0]), now[changed[0]]
                raise InputError(
                    f"{self.folder} is of another job ({changed[0]} {was}, not {is_}): give another --out, or remove "
                    f"this folder."
                )
            if all(earlier[name] == cut[name] for name in cut):
                (self.folder / RESULT).unlink(missing_ok=True)  # of a job that is done again
                return dict(earlier["notes"])
        (self.folder / RESULT).unlink(missing_ok=True)
        self._remove_parts()
        self._write(MANIFEST, {"format": FORMAT, "asked": asked, **cut, "notes": notes})
        return notes

    def wait_for(self, parts: int) -> None:
        """Return when all parts are seen. Raises InputError if some are not, because the storage is not shared."""
        until = time.monotonic() + VISIBLE_AFTER
        while absent := set(range(parts)) - self.finished():
            if time.monotonic() > until:
                raise InputError(
                    f"{len(absent)} parts that other machines finished are not in {self.folder}: expected a folder on "
                    "storage that all machines share, under the same path."
                )
            time.sleep(0.5)

    def finish(self, result: dict[str, Any]) -> None:
        """Record the result, which ends the job, and remove the parts."""
        self.check_owned()
        self._write(RESULT, result)
        self._remove_parts()

    def _remove_parts(self) -> None:
        for number in self.finished():
            self.part(number).unlink(missing_ok=True)

    # The machines that do the parts ---------------------------------------------------------------------------------

    def part(self, number: int) -> Path:
        """Return the file of a part."""
        return self.folder / f"part-{number:05d}"

    def finished(self) -> set[int]:
        """Return the numbers of the parts that are finished."""
        found = (PART.fullmatch(path.name) for path in self.folder.glob("part-*"))
        return {int(match[1]) for match in found if match}

    def is_cancelled(self) -> bool:
        """Return whether the job is to stop."""
        return (self.folder / CANCEL).exists()

    # Everyone -------------------------------------------------------------------------------------------------------

    def status(self) -> JobStatus:
        """Return the state of the job. Raises InputError if the folder is not of a job."""
        manifest = self._manifest()
        is_done = (self.folder / RESULT).exists()
        count = manifest["parts"] if is_done else len(self.finished())
        state = "running" if is_held(self._lock) else "done" if is_done else "stopped"
        return JobStatus(manifest["asked"], manifest["parts"], count, state)

    def cancel(self) -> bool:
        """Make the job stop, and return whether a process runs it. Raises what `status` raises."""
        state = self.status().state
        if state != "done":
            (self.folder / CANCEL).touch()  # the next start removes it
        return state == "running"

    @property
    def _lock(self) -> Path:
        return self.folder / "lock"

    def _manifest(self) -> dict[str, Any]:
        path = self.folder / MANIFEST
        if not path.is_file():
            raise InputError(f"{self.out} contains no job: expected the --out of a `regard job` command.")
        try:
            manifest: dict[str, Any] = parse_json(path.read_text("utf-8"))
            if {"asked", "inputs", "parts", "notes"} <= manifest.keys() and manifest.get("format") == FORMAT:
                return manifest
            why = f"format {manifest.get('format')}, expected {FORMAT}"
        except (ValueError, AttributeError) as error:
            why = str(error)
        raise InputError(f"{path} cannot be read ({why}): remove {self.folder}, and run the command again.")

    def _write(self, name: str, values: dict[str, Any]) -> None:
        with replacing(self.folder / name) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
