"""`AudioStore`: the recordings that Cesar keeps itself, each stored once, under the digest of its bytes.

A file's name is made of digests and ids only; what people call a recording never becomes a path. Files come and go
within the database's write transactions (see `repository`), so that no job can lose its recording to another's end.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from cesar.api.migrate import sync_folder
from cesar.errors import DiskFull, OutputError

NOTE_SUFFIX = ".origin"
"""Ends the name of the note that lies beside a part, and goes with it."""
NO_ROOM_HINT = "Try again later, or ask whoever runs the service to free some space."
_FULL = (errno.ENOSPC, errno.EDQUOT)
_INCOMING = "incoming"
_PART_SUFFIX = ".part"
_DIGEST_LETTERS = 64


class AudioStore:
    """A folder: `ab/abcdef...` are whole recordings by SHA-256, `incoming/` has what is still on its way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = folder / _INCOMING

    def path_of(self, digest: str) -> Path:
        """Say where a recording is kept, or would be."""
        return self.folder / digest[:2] / digest

    def new_upload(self, owner: str) -> Path:
        """Name a new file for what is on its way to this owner; it goes when the owner is dead.

        Raises `DiskFull` or `OutputError`.
        """
        with storing():
            self._incoming.mkdir(parents=True, exist_ok=True)
        return self._incoming / f"{owner}-{uuid4().hex}"

    def part_of(self, job_id: str) -> Path:
        """Say where the worker keeps what it has fetched of a job's recording, from attempt to attempt."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        return self._incoming / f"{job_id}{_PART_SUFFIX}"

    def keep(self, arrived: Path, digest: str) -> Path:
        """Move a file that has arrived, and is on the disk, to its place; if the bytes are there already, drop it.

        Raises `DiskFull` or `OutputError`.
        """
        place = self.path_of(digest)
        with storing():
            if place.exists():
                arrived.unlink(missing_ok=True)
                return place
            place.parent.mkdir(parents=True, exist_ok=True)
            arrived.replace(place)
            sync_folder(place.parent)
            sync_folder(self.folder)
        return place

    def remove(self, digest: str) -> None:
        """Delete a recording."""
        self.path_of(digest).unlink(missing_ok=True)

    def remove_part(self, job_id: str) -> None:
        """Delete what was fetched of a job's recording."""
        part = self.part_of(job_id)
        for left in (part, part.with_suffix(NOTE_SUFFIX)):
            left.unlink(missing_ok=True)

    def sweep(
        self,
        *,
        is_wanted: Callable[[str], bool],
        is_dead: Callable[[str], bool],
        has_job: Callable[[str], bool],
    ) -> int:
        """Delete what nobody needs any more: recordings without a job, and what dead owners have left.

        is_wanted: whether a job needs the recording of that digest. is_dead: whether the owner of that name is dead.
        has_job: whether there is an unfinished job of that id. Gives the number of files.
        """
        gone = 0
        for file in self.folder.glob("*/*") if self.folder.is_dir() else ():
            if file.parent.name == _INCOMING:
                is_part = file.suffix in (_PART_SUFFIX, NOTE_SUFFIX)
                is_left = not has_job(file.stem) if is_part else is_dead(file.name.partition("-")[0])
            else:
                is_left = len(file.name) == _DIGEST_LETTERS and not is_wanted(file.name)
            if is_left:
                with suppress(OSError):
                    file.unlink()
                    gone += 1
        return gone


@contextmanager
def storing() -> Iterator[None]:
    """Turn what the system reports of a recording's file into our errors, which name no path."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull("no room is left for the recording", hint=NO_ROOM_HINT) from error
        raise OutputError(f"the recording can't be stored: {error.strerror}", hint="Try again later.") from error
