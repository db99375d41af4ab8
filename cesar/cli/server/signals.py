"""How a program that runs for long is ended: signals ask it to, and a watchdog sees to it."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_WATCHDOG_MARGIN_S = 5.0
"""How much longer than it was told to the process may take to end."""
_WATCHDOG_EXIT_CODE = 70


class SignalHandler:
    """Hears signals: the first has the program finish, the second has it stop.

    stop: is awaited with whether it is urgent. grace_s: how long the program may take to finish, in seconds.
    """

    def __init__(self, stop: Callable[[bool], Awaitable[None]], grace_s: float) -> None:
        self._stop = stop
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._watchdog = _Watchdog()
        self._count = 0
        self._stop_task: asyncio.Future[None] | None = None

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Leave word. This runs in the midst of whatever the main thread does, also if the loop is stuck."""
        self._count += 1
        self._watchdog.allow((self._grace_s if self._count == 1 else 0.0) + _WATCHDOG_MARGIN_S)
        with suppress(RuntimeError):  # the loop is closed: there is nothing left to stop
            self._loop.call_soon_threadsafe(self._start_stop, self._count > 1)

    def _start_stop(self, is_urgent: bool) -> None:
        self._stop_task = asyncio.ensure_future(self._stop(is_urgent))


class _Watchdog:
    """Ends the process if it does not end by itself in the time that it is given."""

    def __init__(self) -> None:
        self._deadlines: queue.SimpleQueue[float] = queue.SimpleQueue()
        threading.Thread(target=self._watch, name="cesar-watchdog", daemon=True).start()

    def allow(self, seconds: float) -> None:
        """Let the process have so many seconds more, at most. A signal handler may call it."""
        self._deadlines.put(time.monotonic() + seconds)

    def _watch(self) -> None:
        deadline = self._deadlines.get()
        while (left := deadline - time.monotonic()) > 0:
            with suppress(queue.Empty):
                deadline = min(deadline, self._deadlines.get(timeout=left))
        with suppress(OSError):
            os.write(2, b"cesar: the worker does not end: something in it is stuck. It is ended; no job is lost.\n")
        os._exit(_WATCHDOG_EXIT_CODE)


@contextmanager
def handle_signals(on_signal: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have the function called at every signal that asks to end, but for those that are ignored (as by nohup)."""
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
