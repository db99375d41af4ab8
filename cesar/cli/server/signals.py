"""Shutdown of a long-running program: signals request it, and a watchdog enforces it."""

from __future__ import annotations

import asyncio
import math
import os
import queue
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_WATCHDOG_MARGIN_S = 5.0
"""How long after its grace period the process may take to end."""
_WATCHDOG_EXIT_CODE = 70


class Watchdog:
    """A context that ends the process if it is not left by the deadline, whatever the process is stuck in."""

    def __init__(self) -> None:
        self._deadlines: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        """In seconds of the monotonic clock; None: the context was left."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="cesar-watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._deadlines.put(None)

    def allow(self, seconds: float) -> None:
        """Set the deadline to this many seconds from now, unless it is earlier. Safe in a signal handler."""
        self._deadlines.put(time.monotonic() + seconds)

    def _watch(self) -> None:
        deadline = math.inf
        while (left := deadline - time.monotonic()) > 0:
            with suppress(queue.Empty):
                earlier = self._deadlines.get(timeout=None if deadline == math.inf else left)
                if earlier is None:
                    return
                deadline = min(deadline, earlier)
        with suppress(OSError):
            os.write(2, b"cesar: the worker is stuck and does not stop, so it is killed; no job is lost.\n")
        os._exit(_WATCHDOG_EXIT_CODE)


class SignalHandler:
    """Handles signals: on the first the program finishes, on the second it stops.

    stop: awaited with whether the stop is urgent. grace_s: how long the program may take to finish, in seconds.
    watchdog: ends the process if it takes much longer.
    """

    def __init__(self, stop: Callable[[bool], Awaitable[None]], grace_s: float, watchdog: Watchdog) -> None:
        self._stop = stop
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._watchdog = watchdog
        self._count = 0
        self._stop_task: asyncio.Future[None] | None = None

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Request the stop. This interrupts whatever the main thread is doing, even if the loop is stuck."""
        self._count += 1
        self._watchdog.allow((self._grace_s if self._count == 1 else 0.0) + _WATCHDOG_MARGIN_S)
        with suppress(RuntimeError):  # the loop is closed: nothing is left to stop
            self._loop.call_soon_threadsafe(self._start_stop, self._count > 1)

    def _start_stop(self, is_urgent: bool) -> None:
        self._stop_task = asyncio.ensure_future(self._stop(is_urgent))


@contextmanager
def handle_signals(on_signal: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call the function on every termination signal, except those that are ignored (as by nohup)."""
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number, action in before.items() if action is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
