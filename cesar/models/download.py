"""Downloads from the Hugging Face hub: the one place that uses the network and that names the hub's library.

The library's own downloads discard a file that was cut off; here it is kept and resumed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from cesar.errors import DownloadFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cesar.models.catalog import ModelEntry

OnProgress = Callable[[int, int], None]
"""Called with the bytes downloaded so far and the total, of all files together."""

_TIMEOUT_S = 30
_RETRY_DELAYS_S = (0.5, 1.0, 2.0)
"""Waits before each retry of a file without progress. An attempt that makes progress resets the count."""
_TRANSIENT_STATUSES = frozenset({408, 416, 425, 429})
"""Statuses below 500 after which a retry may succeed."""


class _DownloadInterrupted(Exception):
    """An attempt that ended before the file was complete."""

    def __init__(self, reason: str, *, is_transient: bool) -> None:
        super().__init__(reason)
        self.is_transient = is_transient


def download(entry: ModelEntry, folder: Path, on_progress: OnProgress | None = None) -> None:
    """Download the model's files into a folder, resuming where an earlier attempt stopped.

    Raises `DownloadFailed`; what has arrived then stays in the folder. An `OSError` is about the folder.
    Honours HF_ENDPOINT, HF_TOKEN and the proxy settings in the environment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrived = 0
    for file in entry.files:
        target = folder / file
        if not target.is_file():
            part = folder / f"{file}.part"
            _fetch(entry, file, part, partial(_report, on_progress, entry, arrived))
            part.rename(target)
        arrived += target.stat().st_size
        _report(on_progress, entry, arrived)


def arrived_bytes(folder: Path) -> int:
    """Return the size of what an earlier, unfinished download left."""
    return sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0


def _report(on_progress: OnProgress | None, entry: ModelEntry, before: int, here: int = 0) -> None:
    if on_progress:
        on_progress(before + here, max(before + here, entry.size_bytes))


def _fetch(entry: ModelEntry, file: str, part: Path, on_bytes: Callable[[int], None]) -> None:
    """Fetch one file, with retries while they may help."""
    failures = 0
    while True:
        before = _size(part)
        try:
            for here in _stream(_url(entry, file), part, entry.files[file].size):
                on_bytes(here)  # what this raises is the caller's own, not a network error
        except _DownloadInterrupted as interruption:
            failures = 1 if _size(part) > before else failures + 1
            if failures > len(_RETRY_DELAYS_S) or not interruption.is_transient:
                raise DownloadFailed(
                    f"{file} of the model {entry.name} could not be downloaded from {entry.repository}: {interruption}"
                ) from interruption.__cause__
            time.sleep(_RETRY_DELAYS_S[failures - 1])
        else:
            return


def _url(entry: ModelEntry, file: str) -> str:
    from huggingface_hub import hf_hub_url

    endpoint = os.environ.get("HF_ENDPOINT") or None
    return hf_hub_url(entry.repository, file, revision=entry.revision or "main", endpoint=endpoint)


def _stream(url: str, part: Path, size: int | None) -> Iterator[int]:
    """Fetch the rest of one file; yield its size each time bytes have arrived."""
    done = _size(part)
    if done and done == size:
        return
    try:
        yield from _append(url, part, done)
    except Exception as error:  # its class depends on the HTTP library that the hub's version uses
        if isinstance(error, OSError) and error.errno is not None:
            raise  # it is the disk, not the network
        raise _to_interruption(error) from error


def _append(url: str, part: Path, done: int) -> Iterator[int]:
    from huggingface_hub import get_session, get_token, hf_raise_for_status

    headers = {"Accept-Encoding": "identity"}  # no range of compressed bytes could be requested
    if token := get_token():
        headers["Authorization"] = f"Bearer {token}"
    if done:
        headers["Range"] = f"bytes={done}-"
    with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT_S, follow_redirects=True) as response:
        if response.status_code == 416:  # there is no such range: what is there can't be a part of the file
            part.unlink()
        hf_raise_for_status(response)
        with part.open("ab" if response.status_code == 206 else "wb") as stream:
            for block in response.iter_bytes():  # as they come: a block of fixed size would be lost if cut off
                stream.write(block)
                yield stream.tell()


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _to_interruption(error: Exception) -> _DownloadInterrupted:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return _DownloadInterrupted(reason, is_transient=status >= 500 or status in _TRANSIENT_STATUSES)
    return _DownloadInterrupted(reason, is_transient=not isinstance(error, OfflineModeIsEnabled))
