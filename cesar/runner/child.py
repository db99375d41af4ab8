"""The child's side: load an engine, receive requests, run the pipeline, send events.

Requests arrive on standard input; events are sent on the original standard output, while anything printed goes to
standard error. The child exits when its parent does: it starts to watch for that before it imports anything heavy.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import queue
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cesar.engines.hardware import Plan, choose, probe, use_wide_vectors
from cesar.errors import CesarError, ChildKilled, ModelError
from cesar.pipeline.request import Request
from cesar.runner import messages
from cesar.runner.memory_limit import OUT_OF_MEMORY, limit_memory, raise_oom_score
from cesar.runner.messages import EngineSpec, Event
from cesar.transcript import Chunk, ModelIdentity

if TYPE_CHECKING:
    from cesar.engines.base import Engine

_ALIVE_EVERY_S = 1.0
_WORKED_EVERY_S = 0.3
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve the parent until it closes standard input."""
    _die_with_parent()
    raise_oom_score()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # with more, NumPy takes five times the CPU time for features
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # otherwise onnxruntime sends telemetry, seconds after its import
    events = _Events(_private_stdout())
    faulthandler.enable()
    threading.Thread(target=_import_pipeline, daemon=True).start()
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(lines,), daemon=True).start()
    spec: EngineSpec = messages.parse(lines.get())
    if hasattr(os, "nice"):
        os.nice(spec.niceness)
    try:
        engine, plan = _load(spec)
    except BaseException as error:  # noqa: BLE001 (the parent must be told of any error)
        events.send(_failure(error))
        os._exit(1)  # a regular exit would block on the reading thread
    limit_memory(plan, _size_of_model(spec))
    events.send(messages.Loaded(engine.identity, plan.warnings))
    while True:
        _serve(messages.parse(lines.get()), engine, plan, events)


def _serve(request: Request, engine: Engine, plan: Plan, events: _Events) -> None:
    try:
        from cesar.pipeline.run import transcribe

        answer: Event = transcribe(request, engine, plan, events)
    except BaseException as error:  # noqa: BLE001 (the parent must be told of any error)
        answer = _failure(error)
    events.send(answer)


class _Events:
    """The pipeline's listener: sends its events to the parent."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._last_alive = 0.0
        self._last_worked = 0.0

    def send(self, event: Event) -> None:
        with self._lock:
            self._out.write(messages.dump(event))
            self._out.flush()

    def opened(self, duration: float | None) -> None:
        self.send(messages.Opened(duration))

    def alive(self) -> None:
        now = time.monotonic()
        if now - self._last_alive >= _ALIVE_EVERY_S:
            self._last_alive = now
            self.send(messages.Alive())

    def progressed(self, reached: float) -> None:
        now = time.monotonic()
        if now - self._last_worked >= _WORKED_EVERY_S:
            self._last_worked = now
            self.send(messages.Worked(round(reached, 3)))

    def finished(self, chunk: Chunk) -> None:
        self.send(messages.Finished(chunk))

    def skipped(self, start: float, end: float) -> None:
        self.send(messages.Skipped(start, end))


def _load(spec: EngineSpec) -> tuple[Engine, Plan]:
    if spec.scripted:
        from cesar.engines.scripted import ScriptedEngine

        return ScriptedEngine(Path(spec.directory)), Plan("cpu", "none", workers=1, threads_per_worker=1, batch_size=1)
    use_wide_vectors()
    from cesar.engines.whisper.engine import WhisperEngine

    directory = Path(spec.directory)
    plan = choose(
        probe(),
        device=spec.device,
        compute_type=spec.compute_type,
        workers=spec.workers,
        model_bytes=_size_of_model(spec),
    )
    identity = ModelIdentity(spec.name, spec.revision, spec.digest, plan.device, plan.compute_type)
    return WhisperEngine(directory, identity, plan), plan


def _size_of_model(spec: EngineSpec) -> int:
    return sum(file.stat().st_size for file in Path(spec.directory).glob("model.bin"))


def _failure(error: BaseException) -> messages.Failed:
    if _is_out_of_memory(error):
        error = ChildKilled(f"memory ran out ({error})" if str(error) else "memory ran out")
    if isinstance(error, CesarError):
        return messages.Failed(error.code, error.message, error.hint)
    bug = CesarError(f"{type(error).__name__}: {error}")
    return messages.Failed(bug.code, bug.message, bug.hint, "".join(traceback.format_exception(error)))


def _is_out_of_memory(error: BaseException) -> bool:
    """Recognise a library's message; Cesar's own may contain any words, such as the name of a recording."""
    if isinstance(error, CesarError) and not isinstance(error, ModelError):
        return False
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


def _import_pipeline() -> None:
    """Import the pipeline while the model loads; an error will be raised again where it is used."""
    with suppress(Exception):
        import cesar.pipeline.run  # noqa: F401


def _private_stdout() -> BinaryIO:
    """Reserve standard output for events; redirect anything else printed there to standard error."""
    private = os.dup(1)
    os.dup2(2, 1)
    sys.stdout.flush()  # output of a startup file
    return os.fdopen(private, "wb")


def _read_requests(lines: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        lines.put(line)
    os._exit(0)  # the parent closed the pipe or is dead: the result is no longer needed


def _die_with_parent() -> None:
    """Make Linux kill this process when the parent dies, so that not even a hang in native code outlives it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
