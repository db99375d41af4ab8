"""A job's recording: fetched if it is remote, and the same file from the beginning of the work to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Self

from cesar.api.execution.backoff import retry_until_available
from cesar.api.execution.job_run import JobRun
from cesar.api.repository import JobRepository
from cesar.errors import AddressRefused, Interrupted, RecordingChanged
from cesar.settings.config import Settings, load

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A recording's file, as it was when the work on it began."""

    path: Path
    identity: object
    """A value that changes when the file is replaced or written; None: there is no file."""

    @classmethod
    def of(cls, path: str) -> Self:
        """Return the file as it is now."""
        return cls(Path(path), _identity(Path(path)))

    def require_unchanged(self, name: str) -> None:
        """Raise `RecordingChanged` if the file has changed; if it was deleted, its reader can go on."""
        if self.identity is not None and _identity(self.path) not in (None, self.identity):
            raise RecordingChanged(f"{name} was changed while it was transcribed")


def _identity(path: Path) -> object:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


async def fetch_recording(
    run: JobRun, repository: JobRepository, settings: Settings | None, report: Callable[[Exception], None]
) -> str:
    """Fetch a job's recording from its `source_url` into the repository's store; return its path.

    Raises `AddressRefused`, `FetchRefused`, `FetchFailed`, `DiskFull`, or `Interrupted` when stopped.
    """
    settings = await asyncio.to_thread(load) if settings is None else settings
    if settings.offline:
        raise AddressRefused("the worker is offline and fetches nothing", hint="Start it without `--offline`.")
    run.progress = replace(run.progress, phase="fetching")
    # The import is slow, and the loop must stay responsive.
    await asyncio.to_thread(import_module, "cesar.api.execution.download.fetch")
    from cesar.api.execution.download.fetch import Limits, fetch

    def on_progress(fetched_bytes: int, audio_bytes: int | None) -> None:
        run.progress = replace(run.progress, fetched_bytes=fetched_bytes, audio_bytes=audio_bytes)

    url = run.job.source_url
    assert url is not None
    partial_file = await repository.download_path(run.job)
    fetched = await fetch(url, partial_file, Limits.from_settings(settings), on_progress, run.stopped)
    store = partial(repository.store_download, run.job, partial_file, fetched.digest, fetched.size)
    path = await retry_until_available(store, report)
    _log.info("job %s has its recording: %d bytes", run.job.id, fetched.size)
    run.progress = replace(run.progress, phase=None, fetched_bytes=fetched.size, audio_bytes=fetched.size)
    if run.should_stop():
        raise Interrupted("the work was stopped")
    return path
