"""`resolve`: asks the system for a host's addresses, in threads that nothing else needs or waits for.

The system's lookup can't be broken off, and takes as long as name servers let it: half a minute for each name where
they don't answer. asyncio would have it use up the threads that uploads, health checks and the worker share.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future

MAX_LOOKUPS = 64
"""How many may be under way at once, those included that nobody waits for any more."""
_slots = threading.BoundedSemaphore(MAX_LOOKUPS)


async def resolve(host: str, port: int) -> tuple[str, ...]:
    """Return the addresses that a host and port stand for. Raises `socket.gaierror`."""
    return await _in_thread_of_its_own(lambda: _ask(host, port))


def _ask(host: str, port: int) -> tuple[str, ...]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(place[0]) for *_, place in found))


async def _in_thread_of_its_own(ask: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    if not _slots.acquire(blocking=False):
        raise socket.gaierror(socket.EAI_AGAIN, "too many hosts are being looked up")
    answer: Future[tuple[str, ...]] = Future()
    answer.set_running_or_notify_cancel()  # so that it can be settled when nobody waits for it any more

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            answer.set_exception(error)
        finally:
            _slots.release()

    try:
        threading.Thread(target=work, name="cesar-resolve", daemon=True).start()  # daemon: no end waits for it
    except RuntimeError as error:
        _slots.release()
        raise socket.gaierror(socket.EAI_AGAIN, "the system gives no more threads") from error
    return await asyncio.wrap_future(answer)
