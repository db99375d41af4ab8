"""The parent's side: children kept warm by engine, killed to cancel, started again after a crash.

One child works on one recording at a time; who comes meanwhile waits for it. A child that dies or hangs is replaced
once, and goes on at the first chunk that was not finished.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from cesar.errors import CesarError, ChildCrashed, ChildKilled, ChildStalled, Interrupted
from cesar.runner.messages import Ended, EngineSpec, Event, Failed, Finished, Loaded, Request
from cesar.runner.process import ChildProcess, Died, Quiet

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a child may be silent at work, and how long it is kept without work, in seconds."""

    stall_timeout_s: float = 300.0
    idle_timeout_s: float = 300.0


Tell = Callable[[Event], None]
ShouldStop = Callable[[], bool]


def run(
    spec: EngineSpec, request: Request, *, limits: Limits, tell: Tell, should_stop: ShouldStop
) -> tuple[Loaded, Ended]:
    """Have a child transcribe a recording, telling of every event on the way.

    Raises `Interrupted` when `should_stop` says so, the child's own errors, and `ChildCrashed`, `ChildKilled` or
    `ChildStalled` if that happened twice.
    """
    with _slot(spec).taken(limits, should_stop) as slot:
        try:
            return slot.attempt(request, limits, tell, should_stop)
        except _Lost as first:
            finished = tuple((chunk.start, chunk.end) for chunk in first.finished)
            again = replace(request, done=(*request.done, *finished))
            try:
                return slot.attempt(again, limits, tell, should_stop)
            except _Lost as second:
                raise second.error(request) from first


def close_all() -> None:
    """Close every child, at work or not."""
    with _lock:
        slots = list(_slots.values())
    for slot in slots:
        slot.close()


class _Lost(Exception):
    """A child died or hung; `finished` are the chunks it had sent."""

    def __init__(self, cause: Died | Quiet, finished: list[Finished]) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.finished = [event.chunk for event in finished]

    def error(self, request: Request) -> CesarError:
        reached = f" after {self.finished[-1].end:.0f} s" if self.finished else ""
        what = f"while transcribing {request.path.name}{reached}, twice"
        match self.cause:
            case Quiet(seconds=seconds):
                return ChildStalled(f"the recogniser made no progress for {seconds:.0f} s {what}")
            case Died(was_killed=True):
                return ChildKilled(f"the system killed the recogniser {what}, most likely for want of memory")
            case died:
                return ChildCrashed(f"the recogniser crashed ({died}) {what}")


class _Slot:
    """The place of one warm child."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._busy = threading.Lock()
        self._child: ChildProcess | None = None
        self._loaded: Loaded | None = None
        self._idle_timer: threading.Timer | None = None

    @contextmanager
    def taken(self, limits: Limits, should_stop: ShouldStop) -> Iterator[_Slot]:
        """Wait for the place, and let the child go after a time without work."""
        while not self._busy.acquire(timeout=_POLL_S):
            _stop_if(should_stop)
        if self._idle_timer:
            self._idle_timer.cancel()
        try:
            yield self
        finally:
            self._idle_timer = threading.Timer(limits.idle_timeout_s, self._close_if_idle)
            self._idle_timer.daemon = True
            self._idle_timer.start()
            self._busy.release()

    def attempt(self, request: Request, limits: Limits, tell: Tell, should_stop: ShouldStop) -> tuple[Loaded, Ended]:
        """Ask the child once. Whatever ends this other than an answer costs the child its life."""
        finished: list[Finished] = []
        try:
            child = self._ready_child()
            child.send(request)
            while True:
                event = _next_event(child, limits, should_stop)
                if isinstance(event, Failed):
                    raise event.error()
                if isinstance(event, Ended):
                    assert self._loaded is not None
                    return self._loaded, event
                if isinstance(event, Loaded):
                    self._loaded = event
                if isinstance(event, Finished):
                    finished.append(event)
                tell(event)
        except (Died, Quiet) as cause:
            self.close()
            raise _Lost(cause, finished) from cause
        except CesarError as error:
            if self._loaded is None or isinstance(error, Interrupted):
                self.close()
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Kill the child, if there is one."""
        child, self._child, self._loaded = self._child, None, None
        if child:
            child.kill()

    def _ready_child(self) -> ChildProcess:
        if self._child is None or not self._child.is_running:
            self.close()
            self._child = ChildProcess()
            self._child.send(self._spec)
        return self._child

    def _close_if_idle(self) -> None:
        if self._busy.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._busy.release()


def _next_event(child: ChildProcess, limits: Limits, should_stop: ShouldStop) -> Event:
    deadline = time.monotonic() + limits.stall_timeout_s
    while True:
        _stop_if(should_stop)
        event = child.receive(timeout_s=_POLL_S)
        if event is not None:
            return event
        if time.monotonic() > deadline:
            raise Quiet(limits.stall_timeout_s)


def _stop_if(should_stop: ShouldStop) -> None:
    if should_stop():
        raise Interrupted("the transcription was stopped")


_lock = threading.Lock()
_slots: dict[EngineSpec, _Slot] = {}


def _slot(spec: EngineSpec) -> _Slot:
    with _lock:
        return _slots.setdefault(spec, _Slot(spec))


def _forget() -> None:
    """After a fork the children are the parent's, not ours."""
    _slots.clear()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
