"""Who works on what, and when: sounds go in, what was recognised comes out in the same order.

Each worker is a thread. It decodes where enough windows are alike to fill a batch, encodes where there are not, and
when nothing is left to encode decodes what is there. A text that has to be tried again waits for its like as well.
No result depends on this: windows are encoded one by one, and what one is decoded together with changes nothing.
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
from cesar.pipeline.recognition.decoding_passes import Attempt, Recognized, Way
from cesar.pipeline.recognition.recognizer import Likeness, Recognizer
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.chunking import PlannedChunk

_USUAL_WINDOW_S = 15.0
"""`Plan.batch_size` counts windows of this length."""
_FIRST_PATIENCE_S = 0.5
"""The first text doesn't wait longer than this for its batch to fill…"""
_PATIENCE_S = 10.0
"""…nor does any other, with those that are done but come after it: work not given away yet is lost in a crash."""
_ENCODED_SHARE = 0.5
"""Of the work on a chunk, when its window is encoded and not yet decoded: about so, with base."""


@dataclass(eq=False, slots=True)
class _Place:
    """A chunk's place in the line, where its result gathers."""

    result: Recognized
    since: float
    unweighed: int = 1
    """Attempts that are still being made."""
    is_encoded: bool = False

    @property
    def share_done(self) -> float:
        return 1.0 if self.unweighed == 0 else _ENCODED_SHARE if self.is_encoded else 0.0


@dataclass(eq=False, slots=True)
class _Task:
    attempt: Attempt
    place: _Place


class Scheduler:
    """One run through a recording with `plan.workers` workers.

    on_work: told, in whatever thread, how far the work has come: see `Progress.worked`.
    """

    def __init__(self, recognizer: Recognizer, plan: Plan, on_work: Callable[[float], None] | None = None) -> None:
        self._recognizer = recognizer
        self._plan = plan
        self._on_work = on_work
        self._changed = threading.Condition()
        self._line: deque[_Place | PlannedChunk] = deque()
        self._to_encode: deque[_Task] = deque()
        self._to_decode: dict[Likeness, list[_Task]] = {}
        self._second_at_work = 0
        self._has_text = False
        self._has_all = False
        self._is_over = False
        self._failure: BaseException | None = None

    def run(self, attempts: Iterable[Attempt | PlannedChunk]) -> Iterator[Recognized | PlannedChunk]:
        """Yield what becomes of each sound, in order; a chunk without an attempt passes through in its place.

        Takes no more attempts than will soon be worked on. Raises what a worker raises.
        """
        with ThreadPoolExecutor(self._plan.workers, thread_name_prefix="recognize") as pool:
            try:
                for _ in range(self._plan.workers):
                    pool.submit(self._work)
                for attempt in attempts:
                    self._admit(attempt)
                    yield from self._finished(until=self._has_room)
                with self._changing():
                    self._has_all = True
                yield from self._finished(until=lambda: not self._line)
            finally:
                with self._changing():
                    self._is_over = True

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._changed:
            yield
            self._changed.notify_all()

    # The caller's side: the line.

    def _admit(self, attempt: Attempt | PlannedChunk) -> None:
        with self._changing():
            if isinstance(attempt, PlannedChunk):
                self._line.append(attempt)
            else:
                place = _Place(Recognized(attempt.sound.chunk), time.monotonic())
                self._line.append(place)
                self._queue(_Task(attempt, place), is_first=True)

    def _finished(self, *, until: Callable[[], bool]) -> Iterator[Recognized | PlannedChunk]:
        """Yield the finished chunks at the head of the line as they come; end when that is so."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._failure or self._head_is_done() or until())
                if self._failure:
                    raise self._failure
                if not self._head_is_done():
                    return
                head = self._line.popleft()
            yield head if isinstance(head, PlannedChunk) else head.result

    def _head_is_done(self) -> bool:
        head = self._line[0] if self._line else None
        return isinstance(head, PlannedChunk) or (head is not None and head.unweighed == 0)

    def _has_room(self) -> bool:
        return len(self._to_encode) < 2 * self._plan.workers and not self._is_full

    @property
    def _is_full(self) -> bool:
        """So many chunks wait for the first of them that no more are taken."""
        return len(self._line) >= 4 * self._plan.workers * self._plan.batch_size

    # The workers' side.

    def _work(self) -> None:
        try:
            while tasks := self._next():
                if tasks[0].attempt.encoded is None:
                    self._encode(tasks[0])
                else:
                    self._decode(tasks)
                self._report()
        except BaseException as failure:  # noqa: BLE001 (it is raised where the results are waited for)
            with self._changing():
                self._failure, self._is_over = failure, True

    def _next(self) -> list[_Task]:
        """Wait for work: a batch to decode or one window to encode; none when the run is over."""
        with self._changed:
            while not self._is_over:
                if batch := self._late_batch() or self._full_batch():
                    return batch
                if self._to_encode:
                    return [self._to_encode.popleft()]
                if (self._has_all or self._is_full) and (batch := self._small_batch()):
                    return batch
                self._changed.wait(_FIRST_PATIENCE_S)
            return []

    def _late_batch(self) -> list[_Task]:
        """The first chunk in the line and its like, if it has waited for them for too long."""
        head = self._line[0] if self._line else None
        patience = _PATIENCE_S if self._has_text else _FIRST_PATIENCE_S
        if isinstance(head, _Place) and time.monotonic() - head.since > patience:
            for likeness, tasks in self._to_decode.items():
                if any(task.place is head for task in tasks):
                    tasks.sort(key=lambda task: task.place is not head)
                    return self._taken(likeness, self._room_for(tasks))
        return []

    def _full_batch(self) -> list[_Task]:
        for likeness, tasks in self._to_decode.items():
            if len(tasks) >= (room := self._room_for(tasks)):
                return self._taken(likeness, room)
        return []

    def _small_batch(self) -> list[_Task]:
        """First attempts before others, which so gather their like, and the longest windows first.

        The last of all are shared out to the workers. So none of them has a long one left at the end.
        """
        if not self._to_decode:
            return []
        likeness = min(self._to_decode, key=lambda likeness: (likeness.way, -likeness.window_s))
        tasks = self._to_decode[likeness]
        count = len(tasks)
        is_last = len(self._to_decode) == 1 and count >= 2 * self._plan.workers
        share = math.ceil(count / self._plan.workers) if is_last else count
        return self._taken(likeness, min(share, self._room_for(tasks)))

    def _room_for(self, alike: Sequence[_Task]) -> int:
        """How many of them to decode at once: their memory is what counts, so fewer of long windows.

        A wide search takes more than twice as much as a narrow one. Only one batch of second attempts at a time may
        have all of that: where many texts are unsure, each worker would else be at the largest of them.
        """
        likeness = self._recognizer.likeness(alike[0].attempt)
        share = 1 if likeness.way is Way.NARROW else 4 if self._second_at_work and _are_second(alike) else 2
        return max(1, int(self._plan.batch_size // share * min(1.0, _USUAL_WINDOW_S / likeness.window_s)))

    def _taken(self, likeness: Likeness, count: int) -> list[_Task]:
        tasks = self._to_decode.pop(likeness)
        self._second_at_work += _are_second(tasks)
        if left := tasks[count:]:
            self._to_decode[likeness] = left
        return tasks[:count]

    def _report(self) -> None:
        with self._changed:
            worked_s = self._worked_s()
        if self._on_work and worked_s is not None:
            self._on_work(worked_s)

    def _worked_s(self) -> float | None:
        """How far the work has come, in seconds of the recording; None where all that was taken is given away."""
        if not self._line:
            return None
        chunks = [one if isinstance(one, PlannedChunk) else one.result.chunk for one in self._line]
        shares = [1.0 if isinstance(one, PlannedChunk) else one.share_done for one in self._line]
        worked = sum(share * (chunk.end - chunk.start) for share, chunk in zip(shares, chunks, strict=True))
        return (chunks[0].start + worked) / SAMPLE_RATE

    def _encode(self, task: _Task) -> None:
        task.attempt = self._recognizer.encode(task.attempt)
        with self._changing():
            task.place.is_encoded = True
            self._queue(task, is_first=False)

    def _decode(self, tasks: list[_Task]) -> None:
        all_decoded = self._recognizer.decode([task.attempt for task in tasks])
        with self._changing():
            self._second_at_work -= _are_second(tasks)
        for task, decoded in zip(tasks, all_decoded, strict=True):
            weighed = self._recognizer.weigh(decoded)
            place = task.place
            with self._changing():
                self._has_text = True
                place.unweighed += len(weighed.again) - 1
                place.result.add(weighed)
                for attempt in reversed(weighed.again):
                    self._queue(_Task(attempt, place), is_first=False)

    def _queue(self, task: _Task, *, is_first: bool) -> None:
        """Have it decoded with its like, or encoded before that; further attempts before the first ones of others."""
        if task.attempt.encoded:
            self._to_decode.setdefault(self._recognizer.likeness(task.attempt), []).append(task)
        elif is_first:
            self._to_encode.append(task)
        else:
            self._to_encode.appendleft(task)


def _are_second(alike: Sequence[_Task]) -> bool:
    """Whether there are texts already, of which these attempts may make better ones."""
    return alike[0].attempt.before is not None
