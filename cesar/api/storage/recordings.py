"""`AudioStore`: the recordings that Cesar keeps itself, each stored once, under the digest of its bytes.

A file's name is made of digests and ids only; what people call a recording never becomes a path. Files come and go
within the database's write transactions (see `repository`), so that no job can lose its recording to another's end.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO
from uuid import uuid4

from cesar.api.storage.migrate import sync_folder
from cesar.errors import DiskFull, OutputError
from cesar.files.private import FILE_MODE, make_folder, opener, tighten

SIDECAR_SUFFIX = ".origin"
"""Ends the name of the note that lies beside a part, and goes with it."""
NO_ROOM_HINT = "Try again later, or ask whoever runs the service to free some space."
ASIDE_DAYS = 14
"""For so long what no job needs lies in `aside`, and comes back if a job needs it after all."""
_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
_INCOMING = "incoming"
_ASIDE = "aside"
_PART_SUFFIX = ".part"
_DIGEST_LENGTH = 64


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep has done."""

    removed: int = 0
    """Uploads that were never finished, and what had lain in `aside` for long enough."""
    set_aside: int = 0
    restored: int = 0
    retained: frozenset[str] = frozenset()
    """Digests of recordings that no job has, and that the database may not know of."""


class AudioStore:
    """A folder: `ab/abcdef...` are whole recordings by SHA-256, `incoming/` has what is still on its way.

    `aside/DATE/` has what no job needs any more, as far as the database knew on that day.
    """

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
        with translate_os_errors():
            make_folder(self._incoming)
        return self._incoming / f"{owner}-{uuid4().hex}"

    def partial_path(self, job_id: str) -> Path:
        """Say where the worker keeps what it has fetched of a job's recording, from attempt to attempt."""
        make_folder(self._incoming)
        return self._incoming / f"{job_id}{_PART_SUFFIX}"

    def add(self, arrived: Path, digest: str) -> Path:
        """Move a file that has arrived, and is on the disk, to its place; if the bytes are there already, drop it.

        Where the disk allows it the file keeps its old name too, which its caller removes when the job is written: so
        a sweep can tell a recording whose job never was from one whose job this database has never seen.

        Raises `DiskFull` or `OutputError`.
        """
        target = self.path_of(digest)
        with translate_os_errors():
            if target.exists():
                arrived.unlink(missing_ok=True)
                return target
            make_folder(target.parent)
            arrived.chmod(FILE_MODE)
            _link_or_move(arrived, target)
            sync_folder(target.parent)
            sync_folder(self.folder)
        return target

    def remove(self, digest: str) -> None:
        """Delete a recording, wherever it lies."""
        self.path_of(digest).unlink(missing_ok=True)
        for copy in self.folder.glob(f"{_ASIDE}/*/{digest}"):
            copy.unlink(missing_ok=True)

    def remove_partial(self, job_id: str) -> None:
        """Delete what was fetched of a job's recording."""
        partial = self.partial_path(job_id)
        for left in (partial, partial.with_suffix(SIDECAR_SUFFIX)):
            left.unlink(missing_ok=True)
        for left in self.folder.glob(f"{_ASIDE}/*/{job_id}.*"):
            left.unlink(missing_ok=True)

    def probe(self) -> None:
        """See that a file can be written here. Raises `DiskFull` or `OutputError`."""
        file = self.new_upload("probe")
        with translate_os_errors():
            try:
                with open(file, "xb", buffering=0, opener=opener) as opened:
                    opened.write(b"\0")
            finally:
                file.unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        """Yield the digests of all recordings that are in their place."""
        for file in self.folder.glob("??/*"):
            if len(file.name) == _DIGEST_LENGTH and file.name.startswith(file.parent.name):
                yield file.name

    def is_empty(self) -> bool:
        """Whether there is no recording, nor anything that may become one."""
        patterns = ("??/*", f"{_INCOMING}/*", f"{_ASIDE}/*/*")
        return not any(path.is_file() for pattern in patterns for path in self.folder.glob(pattern))

    def sweep(
        self,
        *,
        is_needed: Callable[[str], bool],
        is_dead: Callable[[str], bool],
        has_job: Callable[[str], bool],
        known_until: datetime | None,
        retained: Iterable[str] = (),
        today: date | None = None,
    ) -> SweepResult:
        """Put aside what nobody needs any more, bring back what somebody does, and delete what was never whole.

        is_wanted: whether a job needs the recording of that digest. is_dead: whether the owner of that name is dead.
        has_job: whether there is an unfinished job of that id. known_until: when the database was last written, as it
        says itself: a recording that is newer belongs to a job that it may have forgotten, as a copy from yesterday
        has; None: it was never. spared: digests of recordings to be left where they are in any case.
        """
        today = datetime.now(UTC).date() if today is None else today
        known = frozenset(retained)
        if not self.folder.is_dir():
            return SweepResult()
        back = self._restore(is_needed)
        never_whole = [file for file in self._uploads() if _is_unlocked(file) and is_dead(file.name.partition("-")[0])]
        uncommitted = {_inode(file) for file in never_whole}
        unneeded = [digest for digest in self.digests() if not is_needed(digest)]
        left = {digest for digest in unneeded if _inode(self.path_of(digest)) not in uncommitted}
        left = {digest for digest in left if digest in known or is_newer(self.path_of(digest), known_until)}
        doomed = [self.path_of(digest) for digest in unneeded if digest not in left]
        doomed += [partial for partial in self._partials() if _is_unlocked(partial) and not has_job(partial.stem)]
        aside = sum(self._set_aside(file, today) for file in doomed)
        removed = sum(_remove(file) for file in never_whole) + self._empty_aside(today)
        self._tighten()
        return SweepResult(removed, aside, back, frozenset(left))

    def _uploads(self) -> list[Path]:
        return [file for file in self._incoming.glob("*") if file.suffix not in (_PART_SUFFIX, SIDECAR_SUFFIX)]

    def _partials(self) -> list[Path]:
        return [file for file in self._incoming.glob("*") if file.suffix in (_PART_SUFFIX, SIDECAR_SUFFIX)]

    def _set_aside(self, file: Path, today: date) -> bool:
        target = self.folder / _ASIDE / today.isoformat()
        with suppress(OSError):
            make_folder(target)
            file.replace(target / file.name)
            return True
        return False

    def _restore(self, is_needed: Callable[[str], bool]) -> int:
        """Put what a job needs after all back into its place."""
        count = 0
        for file in self.folder.glob(f"{_ASIDE}/*/*"):
            if len(file.name) == _DIGEST_LENGTH and is_needed(file.name):
                target = self.path_of(file.name)
                with suppress(OSError):
                    make_folder(target.parent)
                    if not target.exists():
                        file.rename(target)
                        count += 1
        return count

    def _empty_aside(self, today: date) -> int:
        """Delete what has lain aside for long enough; return the number of files."""
        count = 0
        for folder in (self.folder / _ASIDE).glob("*"):
            with suppress(ValueError):
                if date.fromisoformat(folder.name) + timedelta(days=ASIDE_DAYS) < today:
                    count += sum(_remove(file) for file in folder.iterdir())
            with suppress(OSError):
                folder.rmdir()  # if it is empty
        return count

    def _tighten(self) -> None:
        """Make files private that an earlier version has made readable."""
        if tighten(self.folder):
            for file in self.folder.glob("**/*"):
                tighten(file)


def _link_or_move(arrived: Path, target: Path) -> None:
    try:
        os.link(arrived, target)
    except OSError:  # the file system has no links
        arrived.replace(target)


def _inode(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_dev, status.st_ino


def is_newer(file: Path, moment: datetime | None) -> bool:
    """Whether a file was written after that moment; None is before all."""
    return moment is None or file.stat().st_mtime > moment.timestamp()


def _remove(file: Path) -> bool:
    with suppress(OSError):
        file.unlink()
        return True
    return False


def _is_unlocked(file: Path) -> bool:
    """Whether no process is writing to a file: its lock says so, whatever any database knows."""
    with suppress(OSError), file.open("rb") as opened:
        return try_lock(opened)
    return False


if sys.platform == "win32":

    def try_lock(_file: IO[bytes]) -> bool:
        """Return True: there, what is open can be neither moved nor deleted."""
        return True
else:
    import fcntl

    def try_lock(file: IO[bytes]) -> bool:
        """Lock an open file until it is closed or its process dies; False if another has it."""
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def translate_os_errors() -> Iterator[None]:
    """Turn what the system reports of a recording's file into our errors, which name no path."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL_ERRNOS:
            raise DiskFull("no room is left for the recording", hint=NO_ROOM_HINT) from error
        raise OutputError(f"the recording can't be stored: {error.strerror}", hint="Try again later.") from error
