"""The parent's side: one warm child per engine, killed to cancel, restarted after a crash.

A child works on one recording at a time; other callers wait. A child that dies or hangs is replaced, and the new one
resumes at the first unfinished chunk; if that one dies without finishing any, the run fails.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from cesar.errors import (
    ChildCrashed,
    ChildKilled,
    ChildStalled,
    Interrupted,
    NotMedia,
    RecogniserNotStarted,
    RecognitionError,
    UsageError,
)
from cesar.pipeline.request import Outcome, Request
from cesar.runner.messages import EngineSpec, Event, Failed, Finished, Loaded, Opened, Skipped
from cesar.runner.process import ChildDied, ChildOutOfMemory, ChildProcess, ChildSilent

_POLL_S = 0.1
_NO_MEMORY_HINT = "Convert the recording again from its source, or choose a smaller model with --model."


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on a child, in seconds."""

    stall_timeout_s: float = 300.0
    """Silence after which the child has stalled."""
    idle_timeout_s: float = 300.0
    """Time without work after which a warm child is closed."""
    open_timeout_s: float = 60.0
    """Time from receiving a recording to its first sound."""


OnEvent = Callable[[Event], None]
ShouldStop = Callable[[], bool]


def run(
    spec: EngineSpec, request: Request, *, limits: Limits, on_event: OnEvent, should_stop: ShouldStop
) -> tuple[Loaded, Outcome]:
    """Transcribe a recording in a child; call `on_event` with every event.

    Raises `Interrupted` when `should_stop` returns true, whatever `on_event` and `should_stop` raise, the child's own
    errors, and `ChildCrashed`, `ChildKilled` or `ChildStalled` after a second failure in the same place.
    """
    before: _ChildLost | None = None
    with _slot(spec).acquired(limits, should_stop) as slot:
        while True:
            try:
                return slot.attempt(request, limits, on_event, should_stop)
            except _ChildLost as lost:
                if before is not None and not lost.finished:
                    raise lost.to_error(request, max(before.reached, lost.reached)) from before
                before, request = lost, replace(request, done=(*request.done, *lost.finished))


def close_all() -> None:
    """Close every child, busy or idle."""
    with _lock:
        slots = list(_slots.values())
    for slot in slots:
        slot.close()


class _ChildLost(Exception):
    """A child died or hung; it had sent the `finished` chunks, and had reached `reached`, in seconds."""

    def __init__(
        self,
        cause: ChildDied | ChildSilent | ChildOutOfMemory,
        finished: Sequence[tuple[float, float]],
        reached: float,
        *,
        has_recording: bool,
    ) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.finished = tuple(finished)
        self.reached = reached
        self.has_recording = has_recording
        """Whether the child had received the recording."""

    def to_error(self, request: Request, reached: float) -> RecognitionError:
        """Return the error for a second failure. One that the recording can't have caused is transient."""
        error = self._classify(request, reached)
        is_kill = isinstance(self.cause, ChildDied) and self.cause.was_killed
        error.is_transient = is_kill or not self.has_recording
        return error

    def _classify(self, request: Request, reached: float) -> RecognitionError:
        after = f" after {reached:.0f} s" if reached else ""
        what = f"while transcribing {request.path.name}{after}, twice"
        match self.cause:
            case ChildSilent(seconds=seconds):
                return ChildStalled(f"the recogniser made no progress for {seconds:g} s {what}")
            case ChildDied(ran_out_of_memory=True) | ChildOutOfMemory():
                return ChildKilled(f"the recogniser reached its memory limit {what}", hint=_NO_MEMORY_HINT)
            case ChildDied(was_killed=True):
                return ChildKilled(f"the system killed the recogniser {what}, most likely for lack of memory")
            case died:
                return ChildCrashed(f"the recogniser crashed ({died}) {what}")


class _Slot:
    """Holds one warm child, for one caller at a time."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._busy = threading.Lock()
        self._user: int | None = None
        self._child: ChildProcess | None = None
        self._is_in_sync = False
        """Whether the child has answered the last request, so that nothing it says can belong to an earlier one."""
        self._loaded: Loaded | None = None
        self._idle_timer: threading.Timer | None = None

    @contextmanager
    def acquired(self, limits: Limits, should_stop: ShouldStop) -> Iterator[_Slot]:
        """Wait for the slot; close the child after some time without work."""
        if self._user == threading.get_ident():
            raise UsageError(
                "a callback can't transcribe with the model that is calling it",
                hint="Do it after the transcription has ended.",
            )
        _raise_if_stopped(should_stop)
        while not self._busy.acquire(timeout=_POLL_S):
            _raise_if_stopped(should_stop)
        try:
            self._user = threading.get_ident()
            if self._idle_timer:
                self._idle_timer.cancel()
            yield self
        finally:
            try:
                self._idle_timer = threading.Timer(limits.idle_timeout_s, self._close_if_idle)
                self._idle_timer.daemon = True
                self._idle_timer.start()
            finally:
                self._user = None
                self._busy.release()

    def attempt(
        self, request: Request, limits: Limits, on_event: OnEvent, should_stop: ShouldStop
    ) -> tuple[Loaded, Outcome]:
        """Send the child one request. Any exit other than by its answer kills the child.

        That is how cancelling works: `_next_event` raises `Interrupted`, and `finally` closes the child.
        """
        finished: list[tuple[float, float]] = []
        reached, has_recording = 0.0, False
        try:
            child = self._ready_child()
            loaded = self._loaded or self._load(child, limits, should_stop)
            on_event(loaded)
            has_recording = True
            child.send(request)
            open_timeout = _OpenTimeout(request, limits)
            while True:
                event = open_timeout.observe(_next_event(child, limits, open_timeout.wrap(should_stop)))
                match event:
                    case Finished(chunk=chunk):
                        finished.append((chunk.start, chunk.end))
                        reached = chunk.end
                    case Skipped(end=end):
                        reached = end
                    case Failed(code=ChildKilled.code):
                        raise ChildOutOfMemory(event.message)
                    case Failed():
                        self._is_in_sync = True
                        raise event.error()
                    case Outcome():
                        self._is_in_sync = True
                        return loaded, event
                on_event(event)
        except (ChildDied, ChildSilent, ChildOutOfMemory) as cause:
            raise _ChildLost(cause, finished, reached, has_recording=has_recording) from cause
        finally:
            if not self._is_in_sync:
                self.close()

    def _load(self, child: ChildProcess, limits: Limits, should_stop: ShouldStop) -> Loaded:
        """Wait until the child has its model."""
        event = _next_event(child, limits, should_stop)
        if isinstance(event, Failed):
            error = event.error()
            if isinstance(error, RecognitionError):
                error.is_transient = True  # there was no recording that could be the cause
            raise error
        assert isinstance(event, Loaded)
        self._loaded = event
        return event

    def close(self) -> None:
        """Kill the child, if there is one."""
        child, self._loaded, self._is_in_sync = self._child, None, False
        if child:
            child.kill()
            self._child = None

    def _ready_child(self) -> ChildProcess:
        if self._child is None or not self._is_in_sync or not self._child.is_running:
            self.close()
            try:
                self._child = ChildProcess()
            except OSError as error:
                raise RecogniserNotStarted(f"the recogniser can't be started: {error}") from error
            self._child.send(self._spec)
        self._is_in_sync = False
        return self._child

    def _close_if_idle(self) -> None:
        if self._busy.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._busy.release()


class _OpenTimeout:
    """Limits the time until a recording has been opened and has given its first sound."""

    def __init__(self, request: Request, limits: Limits) -> None:
        self._request = request
        self._limit_s = limits.open_timeout_s
        self._deadline: float | None = time.monotonic() + limits.open_timeout_s

    def observe(self, event: Event) -> Event:
        """Take note of an event: any except `Opened` shows that there is sound, or that the run has ended."""
        if not isinstance(event, Opened):
            self._deadline = None
        return event

    def wrap(self, should_stop: ShouldStop) -> ShouldStop:
        """Return a `should_stop` that raises `NotMedia` once the time is up."""

        def checked() -> bool:
            if self._deadline is not None and time.monotonic() > self._deadline:
                name = self._request.path.name
                raise NotMedia(
                    f"{name} gave no sound within {self._limit_s:g} s of being opened",
                    hint="Check that it plays in a media player; on a very slow disk, raise CESAR_OPEN_TIMEOUT_S.",
                )
            return should_stop()

        return checked


def _next_event(child: ChildProcess, limits: Limits, should_stop: ShouldStop) -> Event:
    deadline = time.monotonic() + limits.stall_timeout_s
    while True:
        _raise_if_stopped(should_stop)
        event = child.receive(timeout_s=_POLL_S)
        if event is not None:
            return event
        if time.monotonic() > deadline:
            raise ChildSilent(limits.stall_timeout_s)


def _raise_if_stopped(should_stop: ShouldStop) -> None:
    if should_stop():
        raise Interrupted("the transcription was stopped")


_lock = threading.Lock()
_slots: dict[EngineSpec, _Slot] = {}


def _slot(spec: EngineSpec) -> _Slot:
    with _lock:
        return _slots.setdefault(spec, _Slot(spec))


def _reset_after_fork() -> None:
    """After a fork the children belong to the parent."""
    _slots.clear()
    _lock.release()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_reset_after_fork)
