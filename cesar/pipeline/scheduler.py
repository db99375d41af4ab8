"""Assigns work to threads: chunks go in, results come out in the same order.

Each worker thread decodes when enough windows with the same key fill a batch, encodes when they don't, and decodes what
is left when there is nothing to encode. Retries are batched as well. No result depends on the schedule: windows are
encoded one by one, and the rest of a batch does not affect a window's text.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from cesar.engines.hardware import Plan
from cesar.pipeline.recognition.decoding_passes import Attempt, DecodingPass, Recognized
from cesar.pipeline.recognition.recognizer import BatchKey, Recognizer
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.chunking import PlannedChunk

_REFERENCE_WINDOW_S = 15.0
"""`Plan.batch_size` counts windows of this length."""
_FIRST_MAX_WAIT_S = 0.5
"""Maximum time that the first text waits for its batch to fill…"""
_MAX_WAIT_S = 10.0
"""…and any later one, with the finished chunks behind it: unreported work is lost in a crash."""
_ENCODED_SHARE = 0.5
"""Share of a chunk's work that is done once its window is encoded; measured with base."""


@dataclass(eq=False, slots=True)
class _ChunkSlot:
    """A chunk in the order of results, with its result so far."""

    result: Recognized
    queued_at: float
    open_attempts: int = 1
    """Number of attempts not evaluated yet."""
    is_encoded: bool = False

    @property
    def share_done(self) -> float:
        return 1.0 if self.open_attempts == 0 else _ENCODED_SHARE if self.is_encoded else 0.0


@dataclass(eq=False, slots=True)
class _Task:
    attempt: Attempt
    slot: _ChunkSlot


class Scheduler:
    """One run through a recording with `plan.workers` workers.

    on_work: called from any thread with the progress, as in `Progress.worked`.
    """

    def __init__(self, recognizer: Recognizer, plan: Plan, on_work: Callable[[float], None] | None = None) -> None:
        self._recognizer = recognizer
        self._plan = plan
        self._on_work = on_work
        self._changed = threading.Condition()
        self._slots: deque[_ChunkSlot | PlannedChunk] = deque()
        self._to_encode: deque[_Task] = deque()
        self._to_decode: dict[BatchKey, list[_Task]] = {}
        self._retries_running = 0
        self._has_text = False
        self._all_admitted = False
        self._has_ended = False
        self._failure: BaseException | None = None

    def run(self, attempts: Iterable[Attempt | PlannedChunk]) -> Iterator[Recognized | PlannedChunk]:
        """Yield the result of each chunk, in order; a chunk without an attempt passes through in its place.

        Takes attempts only as they are needed. Raises what a worker thread raises.
        """
        with ThreadPoolExecutor(self._plan.workers, thread_name_prefix="recognize") as pool:
            try:
                for _ in range(self._plan.workers):
                    pool.submit(self._work)
                for attempt in attempts:
                    self._admit(attempt)
                    yield from self._finished(until=self._has_room)
                with self._notifying():
                    self._all_admitted = True
                yield from self._finished(until=lambda: not self._slots)
            finally:
                with self._notifying():
                    self._has_ended = True

    @contextmanager
    def _notifying(self) -> Iterator[None]:
        with self._changed:
            yield
            self._changed.notify_all()

    # The caller's side

    def _admit(self, attempt: Attempt | PlannedChunk) -> None:
        with self._notifying():
            if isinstance(attempt, PlannedChunk):
                self._slots.append(attempt)
            else:
                slot = _ChunkSlot(Recognized(attempt.sound.chunk), time.monotonic())
                self._slots.append(slot)
                self._queue(_Task(attempt, slot), is_first=True)

    def _finished(self, *, until: Callable[[], bool]) -> Iterator[Recognized | PlannedChunk]:
        """Yield finished chunks in order until the condition holds."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._failure or self._head_is_done() or until())
                if self._failure:
                    raise self._failure
                if not self._head_is_done():
                    return
                head = self._slots.popleft()
            yield head if isinstance(head, PlannedChunk) else head.result

    def _head_is_done(self) -> bool:
        head = self._slots[0] if self._slots else None
        return isinstance(head, PlannedChunk) or (head is not None and head.open_attempts == 0)

    def _has_room(self) -> bool:
        return len(self._to_encode) < 2 * self._plan.workers and not self._is_full

    @property
    def _is_full(self) -> bool:
        """Whether too many chunks wait for the first one to admit more."""
        return len(self._slots) >= 4 * self._plan.workers * self._plan.batch_size

    # The workers' side

    def _work(self) -> None:
        try:
            while tasks := self._next():
                if tasks[0].attempt.encoded is None:
                    self._encode(tasks[0])
                else:
                    self._decode(tasks)
                self._report()
        except BaseException as failure:  # noqa: BLE001 - raised where the results are consumed
            with self._notifying():
                self._failure, self._has_ended = failure, True

    def _next(self) -> list[_Task]:
        """Wait for work and return it: a batch to decode or one window to encode; none when the run has ended."""
        with self._changed:
            while not self._has_ended:
                if batch := self._overdue_batch() or self._full_batch():
                    return batch
                if self._to_encode:
                    return [self._to_encode.popleft()]
                if (self._all_admitted or self._is_full) and (batch := self._small_batch()):
                    return batch
                self._changed.wait(_FIRST_MAX_WAIT_S)
            return []

    def _overdue_batch(self) -> list[_Task]:
        """Return a batch with the first unfinished chunk, if that has waited for too long."""
        head = self._slots[0] if self._slots else None
        max_wait_s = _MAX_WAIT_S if self._has_text else _FIRST_MAX_WAIT_S
        if isinstance(head, _ChunkSlot) and time.monotonic() - head.queued_at > max_wait_s:
            for batch_key, tasks in self._to_decode.items():
                if any(task.slot is head for task in tasks):
                    tasks.sort(key=lambda task: task.slot is not head)
                    return self._take(batch_key, self._max_batch_size(tasks))
        return []

    def _full_batch(self) -> list[_Task]:
        for batch_key, tasks in self._to_decode.items():
            if len(tasks) >= (room := self._max_batch_size(tasks)):
                return self._take(batch_key, room)
        return []

    def _small_batch(self) -> list[_Task]:
        """Return an incomplete batch: first attempts before retries, and long windows first.

        The last batch is divided among the workers, so that they finish at the same time.
        """
        if not self._to_decode:
            return []
        batch_key = min(self._to_decode, key=lambda batch_key: (batch_key.decoding_pass, -batch_key.window_s))
        tasks = self._to_decode[batch_key]
        count = len(tasks)
        is_last = len(self._to_decode) == 1 and count >= 2 * self._plan.workers
        share = math.ceil(count / self._plan.workers) if is_last else count
        return self._take(batch_key, min(share, self._max_batch_size(tasks)))

    def _max_batch_size(self, batch: Sequence[_Task]) -> int:
        """Return the maximum batch size, which is limited by memory: smaller for long windows and wide beams.

        A beam search takes more than twice as much memory as a greedy one. Only one batch of retries at a time gets
        the full size; otherwise every worker would hold the largest batch when many texts are uncertain.
        """
        batch_key = self._recognizer.batch_key(batch[0].attempt)
        if batch_key.decoding_pass is DecodingPass.GREEDY:
            divisor = 1
        else:
            divisor = 4 if self._retries_running and _are_retries(batch) else 2
        return max(1, int(self._plan.batch_size // divisor * min(1.0, _REFERENCE_WINDOW_S / batch_key.window_s)))

    def _take(self, batch_key: BatchKey, count: int) -> list[_Task]:
        tasks = self._to_decode.pop(batch_key)
        self._retries_running += _are_retries(tasks)
        if left := tasks[count:]:
            self._to_decode[batch_key] = left
        return tasks[:count]

    def _report(self) -> None:
        with self._changed:
            worked_s = self._worked_s()
        if self._on_work and worked_s is not None:
            self._on_work(worked_s)

    def _worked_s(self) -> float | None:
        """Return the progress in seconds of the recording; None if every admitted chunk was yielded."""
        if not self._slots:
            return None
        chunks = [one if isinstance(one, PlannedChunk) else one.result.chunk for one in self._slots]
        shares = [1.0 if isinstance(one, PlannedChunk) else one.share_done for one in self._slots]
        done = sum(share * (chunk.end - chunk.start) for share, chunk in zip(shares, chunks, strict=True))
        return (chunks[0].start + done) / SAMPLE_RATE

    def _encode(self, task: _Task) -> None:
        task.attempt = self._recognizer.encode(task.attempt)
        with self._notifying():
            task.slot.is_encoded = True
            self._queue(task, is_first=False)

    def _decode(self, tasks: list[_Task]) -> None:
        all_decoded = self._recognizer.decode([task.attempt for task in tasks])
        with self._notifying():
            self._retries_running -= _are_retries(tasks)
        for task, decoded in zip(tasks, all_decoded, strict=True):
            evaluation = self._recognizer.evaluate(decoded)
            slot = task.slot
            with self._notifying():
                self._has_text = True
                slot.open_attempts += len(evaluation.retries) - 1
                slot.result.add(evaluation)
                for attempt in reversed(evaluation.retries):
                    self._queue(_Task(attempt, slot), is_first=False)

    def _queue(self, task: _Task, *, is_first: bool) -> None:
        """Queue a task for decoding, or for encoding first; retries go before first attempts."""
        if task.attempt.encoded:
            self._to_decode.setdefault(self._recognizer.batch_key(task.attempt), []).append(task)
        elif is_first:
            self._to_encode.append(task)
        else:
            self._to_encode.appendleft(task)


def _are_retries(batch: Sequence[_Task]) -> bool:
    """Whether the attempts are retries of attempts that gave a text."""
    return batch[0].attempt.before is not None
