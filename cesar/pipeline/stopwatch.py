"""Where the time goes: seconds of work per stage, added up over all threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Stopwatch:
    """Adds up seconds by stage, and says `on_lap` each time a step is done; safe to use from several threads."""

    def __init__(self, on_lap: Callable[[], None] | None = None) -> None:
        self._on_lap = on_lap
        self._lock = threading.Lock()
        self._measured = threading.local()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the time inside the `with` towards the stage, but for what is measured inside it."""
        outside = getattr(self._measured, "seconds", 0.0)
        self._measured.seconds = 0.0
        begun = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - begun
            self._add(stage, took - self._measured.seconds)
            self._measured.seconds = outside + took

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Count the time it takes to produce each item towards the stage."""
        iterator = iter(items)
        while True:
            with self.measure(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def seconds(self) -> dict[str, float]:
        """Seconds by stage so far, to the millisecond."""
        with self._lock:
            return {stage: round(seconds, 3) for stage, seconds in self._seconds.items()}

    def _add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
        if self._on_lap:
            self._on_lap()
