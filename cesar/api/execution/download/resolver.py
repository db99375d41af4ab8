"""`resolve`: resolves a host with the system's resolver, in threads of its own.

The system's lookup can't be cancelled, and may take half a minute if name servers don't respond. In asyncio's default
executor it would use up the threads that uploads, health checks and the worker share.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future

MAX_LOOKUPS = 64
"""Maximum number of concurrent lookups, including abandoned ones."""
_slots = threading.BoundedSemaphore(MAX_LOOKUPS)


async def resolve(host: str, port: int) -> tuple[str, ...]:
    """Return the addresses of a host and port. Raises `socket.gaierror`."""
    return await _in_own_thread(lambda: _look_up(host, port))


def _look_up(host: str, port: int) -> tuple[str, ...]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


async def _in_own_thread(lookup: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    if not _slots.acquire(blocking=False):
        raise socket.gaierror(socket.EAI_AGAIN, "too many hosts are being looked up")
    answer: Future[tuple[str, ...]] = Future()
    answer.set_running_or_notify_cancel()  # so that an abandoned lookup can still set its result

    def work() -> None:
        try:
            answer.set_result(lookup())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            answer.set_exception(error)
        finally:
            _slots.release()

    try:
        threading.Thread(
            target=work, name="cesar-resolve", daemon=True
        ).start()  # daemon: a shutdown does not wait for it
    except RuntimeError as error:
        _slots.release()
        raise socket.gaierror(socket.EAI_AGAIN, "the system allows no more threads") from error
    return await asyncio.wrap_future(answer)
