"""Throttled logging: each kind of message is logged once a minute."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from cesar.errors import CesarError

_INTERVAL_S = 60.0
_MAX_KIND_LENGTH = 80
_MAX_KINDS = 100


class ThrottledErrorLog:
    """Logs errors with their meaning for the reader, and the traceback unless they are `CesarError`s."""

    def __init__(self, log: logging.Logger, meaning: str) -> None:
        self.logged_at: dict[str, float] = {}
        """When each kind of error was last logged."""
        self._log = log
        self._meaning = meaning

    def report(self, error: Exception) -> None:
        """Log an error, unless one of its kind was logged within the last minute."""
        kind, now = type(error).__name__, time.monotonic()
        if now - self.logged_at.get(kind, -_INTERVAL_S) >= _INTERVAL_S:
            self.logged_at[kind] = now
            unexpected = None if isinstance(error, CesarError) else error
            self._log.error("%s: %s: %s", self._meaning, kind, error, exc_info=unexpected)


class ThrottledLog:
    """Logs messages that clients can trigger at will: each kind once a minute, with the number suppressed since."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self._suppressed: Counter[str] = Counter()

    def info(self, kind: str, message: str) -> None:
        """Log a message, unless one of its kind was logged within the last minute. Use only a few kinds."""
        self._log_throttled(logging.INFO, kind, message)

    def warning(self, kind: str, message: str) -> None:
        """Log a warning in the same way."""
        self._log_throttled(logging.WARNING, kind, message)

    def error(self, kind: str, message: str) -> None:
        """Log an error, throttled like `info`."""
        self._log_throttled(logging.ERROR, kind, message)

    def _log_throttled(self, level: int, kind: str, message: str) -> None:
        now = self._clock()
        if now - self._logged_at.get(kind, -_INTERVAL_S) < _INTERVAL_S:
            self._suppressed[kind] += 1
            return
        self._logged_at[kind] = now
        suppressed = self._suppressed.pop(kind, 0)
        self._log.log(
            level, "%s%s", message, f" (and {suppressed} more of this kind since the last line)" if suppressed else ""
        )


class ThrottleFilter(logging.Filter):
    """Passes each message of another library once a minute, whatever its arguments."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._logged_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be logged."""
        kind, now = (record.name, str(record.msg)[:_MAX_KIND_LENGTH]), self._clock()
        if now - self._logged_at.get(kind, -_INTERVAL_S) < _INTERVAL_S:
            return False
        if len(self._logged_at) >= _MAX_KINDS:
            self._logged_at.clear()
        self._logged_at[kind] = now
        return True
