"""`fetch`: gets a recording from an http(s) address into a file, and goes on where an earlier attempt was cut off.

Nothing that the other side says is relied on: not where it redirects to, not its lengths, not its types. Addresses are
judged in `addresses`, asked in `connections`, answers read in `answers`; what has arrived is kept by `parts`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from shutil import disk_usage
from typing import Self, TypeVar

import httpx

import cesar
from cesar.api.execution.download.address_policy import (
    PUBLIC,
    LookUp,
    Reach,
    addresses_of,
    look_up,
    reach_of,
    require_address,
)
from cesar.api.execution.download.http import Patience, answer_of
from cesar.api.execution.download.partial_file import Origin, Part
from cesar.api.execution.download.responses import (
    following,
    length_of,
    place_of,
    require_media,
    total_of_rest,
    validator_of,
)
from cesar.errors import AddressRefused, DiskFull, FetchFailed, FetchRefused, FetchTooSlow, Interrupted
from cesar.settings.config import Settings

T = TypeVar("T")
MAX_REDIRECTS = 5
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_WORTH_ANOTHER_TRY_BYTES = 1024**2
_PAUSE_S = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fetch may take."""

    max_bytes: int
    min_free_bytes: int = 0
    """What must stay free on the disk."""
    reach: Reach = PUBLIC
    patience: Patience = field(default_factory=Patience)
    deadline_s: float = 4 * 3600.0
    """For all of it, whatever is redirected, broken off and taken up again."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Give the limits that the settings set."""
        usual = Patience()
        patience = replace(usual, least_bytes=round(settings.fetch_min_bytes_per_s * usual.stall_s))
        reach = reach_of(settings)
        return cls(settings.max_upload_bytes, settings.min_free_bytes, reach, patience, settings.fetch_timeout_s)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A recording that has arrived, and is on the disk."""

    digest: str
    """SHA-256, hexadecimal."""
    size: int
    """In bytes."""


OnProgress = Callable[[int, int | None], None]
"""Is told how many bytes there are, and how many there will be if that is known. It runs in the event loop."""


async def fetch(
    url: str,
    target: Path,
    limits: Limits,
    on_progress: OnProgress,
    stopped: asyncio.Event,
    *,
    look_up: LookUp = look_up,
) -> Fetched:
    """Get what is at an address into the file `target`; what an earlier call has left there is not asked for again.

    Redirects are followed, five at most, each to an address that is allowed, and never from https to http. Raises
    `AddressRefused` and `FetchRefused` for good, with nothing left; `FetchFailed` and `DiskFull` if it may succeed
    later, and `Interrupted` when stopped: then what has arrived stays (but on a disk without any room).
    """
    download = _Download(url, limits, on_progress, stopped, look_up)
    task, stop = asyncio.create_task(download.run(target)), asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({task, stop}, timeout=limits.deadline_s, return_when=asyncio.FIRST_COMPLETED)
        is_late = not task.done() and not stop.done()
    finally:
        stop.cancel()
        task.cancel()
        await asyncio.wait({task})
    if task.cancelled() and is_late:
        raise FetchTooSlow(f"{_host_of(url)}: it has not all come within {limits.deadline_s:g} s")
    if task.cancelled():
        raise Interrupted("the work was stopped")
    return task.result()


class _StartOver(Exception):
    """What is there is not a part of what the address gives now."""


class _Download:
    """One call of `fetch`. What it does with files happens in a thread of its own, in order."""

    def __init__(
        self, url: str, limits: Limits, on_progress: OnProgress, stopped: asyncio.Event, look_up: LookUp
    ) -> None:
        self._url = url
        self._limits = limits
        self._on_progress = on_progress
        self._stopped = stopped
        self._look_up = look_up
        self._disk = ThreadPoolExecutor(1, "cesar-fetch")
        self._part: Part

    async def run(self, target: Path) -> Fetched:
        opening = self._disk.submit(Part.open, target, self._stopped.is_set)
        try:
            self._part = await _done(opening)
            if not self._part.is_whole:
                await self._get_rest()
            await self._on_disk(self._part.finish)
            return Fetched(self._part.digest, self._part.size)
        except (AddressRefused, FetchRefused):
            await self._on_disk(self._part.discard)
            raise
        finally:
            closing = asyncio.wrap_future(self._disk.submit(_close, opening))
            self._disk.shutdown(wait=False)
            await asyncio.wait({closing})

    async def _get_rest(self) -> None:
        """Ask until everything is there. A broken connection is taken up again as long as each brings us on."""
        furthest = self._part.size
        while True:
            try:
                return await self._ask()
            except _StartOver:
                await self._on_disk(self._part.restart, None)
            except FetchTooSlow:
                raise
            except FetchFailed as error:
                if not self._part.can_go_on or self._part.size < furthest + _WORTH_ANOTHER_TRY_BYTES:
                    raise
                furthest = self._part.size
                _log.info("a fetch goes on at %d bytes: %s", furthest, error)
                await asyncio.sleep(_PAUSE_S)

    async def _ask(self) -> None:
        require_address(self._url, self._limits.reach)
        url = httpx.URL(self._url)
        for _ in range(MAX_REDIRECTS + 1):
            addresses = await addresses_of(url, self._limits.reach, self._look_up)
            async with answer_of(url, addresses, self._headers(url), self._limits.patience) as answer:
                leads_to = following(url, answer)
                if leads_to is None:
                    return await self._take(url, answer)
            require_address(str(leads_to), self._limits.reach)
            url = leads_to
        raise FetchRefused(f"{url.host}: it redirects more than {MAX_REDIRECTS} times")

    def _headers(self, url: httpx.URL) -> dict[str, str]:
        """Ask for the bytes as they are; if they are a part's, for what is missing, unless they have changed."""
        headers = {
            "User-Agent": f"cesar/{cesar.__version__}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }
        origin = self._origin_of_rest(url)
        if origin is not None and origin.validator is not None:
            headers |= {"Range": f"bytes={self._part.size}-", "If-Range": origin.validator}
        return headers

    def _origin_of_rest(self, url: httpx.URL) -> Origin | None:
        """Give the origin of what is there, if the rest can be asked for at this address."""
        origin = self._part.origin
        return origin if self._part.can_go_on and origin is not None and origin.place == place_of(url) else None

    async def _take(self, url: httpx.URL, answer: httpx.Response) -> None:
        """Take an answer that is no redirect."""
        origin = self._origin_of_rest(url)
        if origin is not None and answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _StartOver  # if that were all of it, the note would say so, or a shorter file is there now
        require_media(url, answer)
        if answer.status_code == HTTPStatus.PARTIAL_CONTENT:
            if origin is None:
                raise FetchRefused(f"{url.host}: it sends a part, though asked for all of it")
            total = total_of_rest(answer, origin, self._part.size)
            if total is None:
                raise _StartOver
        else:
            total = length_of(answer)
            await self._on_disk(self._part.restart, Origin(place_of(url), validator_of(answer), total))
        self._require_size(url, total or 0)
        await self._require_room((total or 0) - self._part.size)
        await self._take_bytes(url, answer, total)

    async def _take_bytes(self, url: httpx.URL, answer: httpx.Response, total: int | None) -> None:
        self._on_progress(self._part.size, total)
        patience = self._limits.patience
        since, arrived_bytes = patience.clock(), 0
        async for block in answer.aiter_raw():
            self._require_size(url, self._part.size + len(block))
            await self._on_disk(self._part.write, block)
            self._on_progress(self._part.size, total)
            arrived_bytes += len(block)
            passed_s = patience.clock() - since
            if passed_s > patience.stall_s:
                self._require_speed(url, arrived_bytes, passed_s)
                await self._require_room(0)
                since, arrived_bytes = patience.clock(), 0
        if total is not None and self._part.size != total:
            raise FetchFailed(f"{url.host}: {self._part.size} bytes have come of {total}")

    def _require_speed(self, url: httpx.URL, arrived_bytes: int, passed_s: float) -> None:
        patience = self._limits.patience
        if arrived_bytes < patience.least_bytes:
            speed, least = arrived_bytes / passed_s, patience.least_bytes / patience.stall_s
            raise FetchTooSlow(
                f"{url.host}: it sends too slowly: {speed:.0f} bytes a second, and {least:.0f} are the least"
            )

    def _require_size(self, url: httpx.URL, size: int) -> None:
        if size > self._limits.max_bytes:
            hint = "Give a smaller recording, or ask whoever runs the service to raise `max_upload_bytes`."
            raise FetchRefused(f"{url.host}: it has more than {self._limits.max_bytes} bytes", hint=hint)

    async def _require_room(self, size: int) -> None:
        """Raise `DiskFull` if what is to come would take what must stay free: the queue itself needs room."""
        usage = await self._on_disk(disk_usage, self._part.path.parent)
        if usage.free - size < self._limits.min_free_bytes:
            raise DiskFull("there is no room for the recording", hint="Free some space: it is tried again by itself.")

    async def _on_disk(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            return await _done(self._disk.submit(work, *arguments))
        except DiskFull:
            self._disk.submit(self._part.discard)  # the queue needs room to write down what became of it
            raise


def _host_of(url: str) -> str:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        return "the address"


async def _done(work: Future[T]) -> T:
    """Wait for what is done with files. Raises `DiskFull` or `FetchFailed`, which don't tell where the files are."""
    try:
        return await asyncio.wrap_future(work)
    except OSError as error:
        if error.errno in _NO_ROOM:
            hint = "Free some space: it is tried again by itself."
            raise DiskFull("no room is left for the recording", hint=hint) from None
        raise FetchFailed(f"what arrives can't be kept: {error.strerror or type(error).__name__}") from error


def _close(opening: Future[Part]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
