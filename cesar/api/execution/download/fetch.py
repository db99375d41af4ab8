"""`fetch`: downloads a recording from an http(s) address into a file, resuming an earlier attempt.

Nothing the server says is trusted: neither redirects nor lengths nor types. `address_policy` checks addresses, `http`
sends requests, `responses` interprets them, and `partial_file` stores what has arrived.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Self, TypeVar

import httpx

import cesar
from cesar.api.execution.download.address_policy import (
    PUBLIC,
    AddressPolicy,
    Resolver,
    policy_from,
    require_address,
    resolve_allowed,
)
from cesar.api.execution.download.http import Timeouts, open_response
from cesar.api.execution.download.partial_file import PartialFile, Source
from cesar.api.execution.download.resolver import resolve
from cesar.api.execution.download.responses import (
    content_length,
    redirect_target,
    require_media,
    stable_address,
    total_from_range,
    validator_of,
)
from cesar.errors import AddressRefused, DiskFull, FetchFailed, FetchRefused, FetchTooSlow, Interrupted
from cesar.files.disk import free_bytes, is_disk_full
from cesar.settings.config import Settings

T = TypeVar("T")
MAX_REDIRECTS = 5
_DISK_FULL_HINT = "Free some space; the job is retried automatically."
_MIN_PROGRESS_BYTES = 1024**2
_RETRY_DELAY_S = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a fetch."""

    max_bytes: int
    min_free_bytes: int = 0
    """Space that must stay free on the disk."""
    policy: AddressPolicy = PUBLIC
    timeouts: Timeouts = field(default_factory=Timeouts)
    deadline_s: float = 4 * 3600.0
    """For the whole fetch, including redirects and reconnections."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the limits that the settings define."""
        usual = Timeouts()
        timeouts = replace(usual, min_bytes=round(settings.fetch_min_bytes_per_s * usual.stall_s))
        policy = policy_from(settings)
        return cls(settings.max_upload_bytes, settings.min_free_bytes, policy, timeouts, settings.fetch_timeout_s)


@dataclass(frozen=True, slots=True)
class FetchResult:
    """A recording that has been fetched, and is on the disk."""

    digest: str
    """SHA-256, hexadecimal."""
    size: int
    """In bytes."""


OnProgress = Callable[[int, int | None], None]
"""Called in the event loop with the number of bytes so far, and the total if it is known."""


async def fetch(
    url: str,
    target: Path,
    limits: Limits,
    on_progress: OnProgress,
    stopped: asyncio.Event,
    *,
    resolve: Resolver = resolve,
) -> FetchResult:
    """Download a URL into the file `target`, resuming what an earlier call has left there.

    At most five redirects are followed, each to an allowed address, and never from https to http. Raises
    `AddressRefused` and `FetchRefused` for permanent failures, and leaves nothing; `FetchFailed` and `DiskFull` if a
    retry may succeed, and `Interrupted` when stopped: the partial file then stays, except on a full disk.
    """
    download = _Download(url, limits, on_progress, stopped, resolve)
    task, stop = asyncio.create_task(download.run(target)), asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({task, stop}, timeout=limits.deadline_s, return_when=asyncio.FIRST_COMPLETED)
        has_timed_out = not task.done() and not stop.done()
    finally:
        stop.cancel()
        task.cancel()
        await asyncio.wait({task})
    if task.cancelled() and has_timed_out:
        raise FetchTooSlow(f"{_host_of(url)}: the fetch took longer than {limits.deadline_s:g} s")
    if task.cancelled():
        raise Interrupted("the work was stopped")
    return task.result()


class _Restart(Exception):
    """The partial file does not belong to what the server sends now."""


class _Download:
    """One call of `fetch`. It accesses files in a thread of its own, in order."""

    def __init__(
        self, url: str, limits: Limits, on_progress: OnProgress, stopped: asyncio.Event, resolve: Resolver
    ) -> None:
        self._url = url
        self._limits = limits
        self._on_progress = on_progress
        self._stopped = stopped
        self._resolve = resolve
        self._disk = ThreadPoolExecutor(1, "cesar-fetch")
        self._partial: PartialFile

    async def run(self, target: Path) -> FetchResult:
        opening = self._disk.submit(PartialFile.open, target, self._stopped.is_set)
        try:
            self._partial = await _wait_for_disk(opening)
            if not self._partial.is_complete:
                await self._fetch_remaining()
            await self._on_disk(self._partial.finish)
            return FetchResult(self._partial.digest, self._partial.size)
        except (AddressRefused, FetchRefused):
            await self._on_disk(self._partial.discard)
            raise
        finally:
            closing = asyncio.wrap_future(self._disk.submit(_close, opening))
            self._disk.shutdown(wait=False)
            await asyncio.wait({closing})

    async def _fetch_remaining(self) -> None:
        """Request until the file is complete. Resume broken connections as long as each makes progress."""
        furthest = self._partial.size
        while True:
            try:
                return await self._request()
            except _Restart:
                await self._on_disk(self._partial.restart, None)
            except FetchTooSlow:
                raise
            except FetchFailed as error:
                if not self._partial.can_resume or self._partial.size < furthest + _MIN_PROGRESS_BYTES:
                    raise
                furthest = self._partial.size
                _log.info("a fetch resumes at %d bytes: %s", furthest, error)
                await asyncio.sleep(_RETRY_DELAY_S)

    async def _request(self) -> None:
        require_address(self._url, self._limits.policy)
        url = httpx.URL(self._url)
        for _ in range(MAX_REDIRECTS + 1):
            addresses = await resolve_allowed(url, self._limits.policy, self._resolve)
            async with open_response(url, addresses, self._request_headers(url), self._limits.timeouts) as response:
                target_url = redirect_target(url, response)
                if target_url is None:
                    return await self._receive(url, response)
            require_address(str(target_url), self._limits.policy)
            url = target_url
        raise FetchRefused(f"{url.host} redirects more than {MAX_REDIRECTS} times")

    def _request_headers(self, url: httpx.URL) -> dict[str, str]:
        """Return headers that request the unencoded bytes; only the missing ones if the recording has not changed."""
        headers = {
            "User-Agent": f"cesar/{cesar.__version__}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }
        source = self._resumable_source(url)
        if source is not None and source.validator is not None:
            headers |= {"Range": f"bytes={self._partial.size}-", "If-Range": source.validator}
        return headers

    def _resumable_source(self, url: httpx.URL) -> Source | None:
        """Return the source of the partial file if the rest can be requested from this URL."""
        source = self._partial.source
        return (
            source if self._partial.can_resume and source is not None and source.place == stable_address(url) else None
        )

    async def _receive(self, url: httpx.URL, response: httpx.Response) -> None:
        """Receive a response that is not a redirect."""
        source = self._resumable_source(url)
        if source is not None and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _Restart  # were it complete, the sidecar would say so: the file is shorter now
        require_media(url, response)
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            if source is None:
                raise FetchRefused(f"{url.host} sends a part, though all of it was requested")
            total = total_from_range(response, source, self._partial.size)
            if total is None:
                raise _Restart
        else:
            total = content_length(response)
            await self._on_disk(self._partial.restart, Source(stable_address(url), validator_of(response), total))
        self._require_size(url, total or 0)
        await self._require_disk_space((total or 0) - self._partial.size)
        await self._receive_body(url, response, total)

    async def _receive_body(self, url: httpx.URL, response: httpx.Response, total: int | None) -> None:
        self._on_progress(self._partial.size, total)
        timeouts = self._limits.timeouts
        since, arrived_bytes = timeouts.clock(), 0
        async for block in response.aiter_raw():
            self._require_size(url, self._partial.size + len(block))
            await self._on_disk(self._partial.write, block)
            self._on_progress(self._partial.size, total)
            arrived_bytes += len(block)
            passed_s = timeouts.clock() - since
            if passed_s > timeouts.stall_s:
                self._require_speed(url, arrived_bytes, passed_s)
                await self._require_disk_space(0)
                since, arrived_bytes = timeouts.clock(), 0
        if total is not None and self._partial.size != total:
            raise FetchFailed(f"{url.host}: only {self._partial.size} of {total} bytes arrived")

    def _require_speed(self, url: httpx.URL, arrived_bytes: int, passed_s: float) -> None:
        timeouts = self._limits.timeouts
        if arrived_bytes < timeouts.min_bytes:
            speed, minimum = arrived_bytes / passed_s, timeouts.min_bytes / timeouts.stall_s
            raise FetchTooSlow(
                f"{url.host} sends too slowly: {speed:.0f} bytes a second, and {minimum:.0f} are the minimum"
            )

    def _require_size(self, url: httpx.URL, size: int) -> None:
        if size > self._limits.max_bytes:
            hint = "Give a smaller recording, or ask the service's administrator to raise `max_upload_bytes`."
            raise FetchRefused(f"{url.host}: the recording has more than {self._limits.max_bytes} bytes", hint=hint)

    async def _require_disk_space(self, size: int) -> None:
        """Raise `DiskFull` if `size` more bytes would use the space that must stay free: the queue itself needs it."""
        free = await self._on_disk(free_bytes, self._partial.path.parent)
        if free - size < self._limits.min_free_bytes:
            raise DiskFull("there is no space for the recording", hint=_DISK_FULL_HINT)

    async def _on_disk(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            return await _wait_for_disk(self._disk.submit(work, *arguments))
        except DiskFull:
            self._disk.submit(self._partial.discard)  # the queue needs space to record the outcome
            raise


def _host_of(url: str) -> str:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        return "the address"


async def _wait_for_disk(work: Future[T]) -> T:
    """Wait for work on files. Raises `DiskFull` or `FetchFailed`, which don't reveal any path."""
    try:
        return await asyncio.wrap_future(work)
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull("no space is left for the recording", hint=_DISK_FULL_HINT) from None
        raise FetchFailed(f"the recording can't be stored: {error.strerror or type(error).__name__}") from error


def _close(opening: Future[PartialFile]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
