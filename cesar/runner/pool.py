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
    RecognitionError,
    UsageError,
)
from cesar.pipeline.request import Outcome, Request
from cesar.runner.messages import EngineSpec, Event, Failed, Finished, Loaded, Opened, Skipped
from cesar.runner.process import ChildProcess, Died, Exhausted, Quiet

_POLL_S = 0.1
_NO_MEMORY_HINT = "Convert the recording anew from its source, or choose a smaller model with --model."


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a child may take, in seconds."""

    stall_timeout_s: float = 300.0
    """To send anything at all."""
    idle_timeout_s: float = 300.0
    """To receive more work."""
    open_timeout_s: float = 60.0
    """From receiving a recording to its first sound."""


Tell = Callable[[Event], None]
ShouldStop = Callable[[], bool]


def run(
    spec: EngineSpec, request: Request, *, limits: Limits, tell: Tell, should_stop: ShouldStop
) -> tuple[Loaded, Outcome]:
    """Have a child transcribe a recording; call `tell` with every event.

    Raises `Interrupted` when `should_stop` says so, whatever `tell` and `should_stop` raise, the child's own errors,
    and `ChildCrashed`, `ChildKilled` or `ChildStalled` if that happened twice in the same place.
    """
    before: _Lost | None = None
    with _slot(spec).taken(limits, should_stop) as slot:
        while True:
            try:
                return slot.attempt(request, limits, tell, should_stop)
            except _Lost as lost:
                if before is not None and not lost.finished:
                    raise lost.error(request, max(before.reached, lost.reached)) from before
                before, request = lost, replace(request, done=(*request.done, *lost.finished))


def close_all() -> None:
    """Close every child, busy or idle."""
    with _lock:
        slots = list(_slots.values())
    for slot in slots:
        slot.close()


class _Lost(Exception):
    """A child died or hung; it had sent the `finished` chunks, and had reached `reached`, in seconds."""

    def __init__(
        self,
        cause: Died | Quiet | Exhausted,
        finished: Sequence[tuple[float, float]],
        reached: float,
        *,
        is_begun: bool,
    ) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.finished = tuple(finished)
        self.reached = reached
        self.is_begun = is_begun
        """Whether the child had been given the recording."""

    def error(self, request: Request, reached: float) -> RecognitionError:
        """Return the error for a second failure. One that the recording can't have caused is transient."""
        error = self._error(request, reached)
        is_kill = isinstance(self.cause, Died) and self.cause.was_killed
        error.may_pass = is_kill or not self.is_begun
        return error

    def _error(self, request: Request, reached: float) -> RecognitionError:
        after = f" after {reached:.0f} s" if reached else ""
        what = f"while transcribing {request.path.name}{after}, twice"
        match self.cause:
            case Quiet(seconds=seconds):
                return ChildStalled(f"the recogniser made no progress for {seconds:g} s {what}")
            case Died(had_no_memory=True) | Exhausted():
                return ChildKilled(f"the recogniser needed more memory than it may have {what}", hint=_NO_MEMORY_HINT)
            case Died(was_killed=True):
                return ChildKilled(f"the system killed the recogniser {what}, most likely for want of memory")
            case died:
                return ChildCrashed(f"the recogniser crashed ({died}) {what}")


class _Slot:
    """The place of one warm child."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._busy = threading.Lock()
        self._user: int | None = None
        self._child: ChildProcess | None = None
        self._is_free = False
        """Whether the child has answered the last request, so that nothing it says can belong to an earlier one."""
        self._loaded: Loaded | None = None
        self._idle_timer: threading.Timer | None = None

    @contextmanager
    def taken(self, limits: Limits, should_stop: ShouldStop) -> Iterator[_Slot]:
        """Wait for the slot; close the child after some time without work."""
        if self._user == threading.get_ident():
            raise UsageError(
                "a callback can't transcribe with the model that is calling it",
                hint="Do it when the transcription has ended.",
            )
        _stop_if(should_stop)
        while not self._busy.acquire(timeout=_POLL_S):
            _stop_if(should_stop)
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

    def attempt(self, request: Request, limits: Limits, tell: Tell, should_stop: ShouldStop) -> tuple[Loaded, Outcome]:
        """Send the child one request. Any exit other than by its answer kills the child."""
        finished: list[tuple[float, float]] = []
        reached, is_begun = 0.0, False
        try:
            child = self._ready_child()
            loaded = self._loaded or self._load(child, limits, should_stop)
            tell(loaded)
            is_begun = True
            child.send(request)
            opening = _Opening(request, limits)
            while True:
                event = opening.watch(_next_event(child, limits, opening.or_stop(should_stop)))
                match event:
                    case Finished(chunk=chunk):
                        finished.append((chunk.start, chunk.end))
                        reached = chunk.end
                    case Skipped(end=end):
                        reached = end
                    case Failed(code=ChildKilled.code):
                        raise Exhausted(event.message)
                    case Failed():
                        self._is_free = True
                        raise event.error()
                    case Outcome():
                        self._is_free = True
                        return loaded, event
                tell(event)
        except (Died, Quiet, Exhausted) as cause:
            raise _Lost(cause, finished, reached, is_begun=is_begun) from cause
        finally:
            if not self._is_free:
                self.close()

    def _load(self, child: ChildProcess, limits: Limits, should_stop: ShouldStop) -> Loaded:
        """Wait until the child has its model."""
        event = _next_event(child, limits, should_stop)
        if isinstance(event, Failed):
            error = event.error()
            if isinstance(error, RecognitionError):
                error.may_pass = True  # no recording was there that could be to blame
            raise error
        assert isinstance(event, Loaded)
        self._loaded = event
        return event

    def close(self) -> None:
        """Kill the child, if there is one."""
        child, self._loaded, self._is_free = self._child, None, False
        if child:
            child.kill()
            self._child = None

    def _ready_child(self) -> ChildProcess:
        if self._child is None or not self._is_free or not self._child.is_running:
            self.close()
            try:
                self._child = ChildProcess()
            except OSError as error:
                raise RecognitionError(f"the recogniser can't be started: {error}") from error
            self._child.send(self._spec)
        self._is_free = False
        return self._child

    def _close_if_idle(self) -> None:
        if self._busy.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._busy.release()


class _Opening:
    """Watches that a recording is opened, and yields its first sound, in time."""

    def __init__(self, request: Request, limits: Limits) -> None:
        self._request = request
        self._limit_s = limits.open_timeout_s
        self._deadline: float | None = time.monotonic() + limits.open_timeout_s

    def watch(self, event: Event) -> Event:
        """Note an event: any but "opened" shows that there is sound, or that the run is over."""
        if not isinstance(event, Opened):
            self._deadline = None
        return event

    def or_stop(self, should_stop: ShouldStop) -> ShouldStop:
        """Raise `NotMedia` where the caller is asked whether to stop, once the time is over."""

        def checked() -> bool:
            if self._deadline is not None and time.monotonic() > self._deadline:
                name = self._request.path.name
                raise NotMedia(
                    f"{name} gave no sound within {self._limit_s:g} s of being opened",
                    hint="Check that it plays in a media player; on a very slow disk raise CESAR_OPEN_TIMEOUT_S.",
                )
            return should_stop()

        return checked


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
    """After a fork the children belong to the parent."""
    _slots.clear()
    _lock.release()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget)
