"""What happens again and again: each kind is logged once a minute."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from cesar.errors import CesarError

_SAY_AGAIN_S = 60.0
_LONGEST_KIND = 80
_MOST_KINDS = 100


class Complaints:
    """Logs errors, with what they mean for the reader; of an error that is no `CesarError`, the traceback too."""

    def __init__(self, log: logging.Logger, meaning: str) -> None:
        self.said: dict[str, float] = {}
        """When each kind of error was logged last."""
        self._log = log
        self._meaning = meaning

    def tell(self, error: Exception) -> None:
        """Log an error, unless one of its kind was logged within the last minute."""
        kind, now = type(error).__name__, time.monotonic()
        if now - self.said.get(kind, -_SAY_AGAIN_S) >= _SAY_AGAIN_S:
            self.said[kind] = now
            unexpected = None if isinstance(error, CesarError) else error
            self._log.error("%s: %s: %s", self._meaning, kind, error, exc_info=unexpected)


class ThrottledLog:
    """Logs what callers may cause as often as they like: each kind once a minute, with how often it happened since."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._said: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def info(self, kind: str, message: str) -> None:
        """Log a message, unless one of its kind was logged within the last minute. There must be few kinds."""
        self._tell(logging.INFO, kind, message)

    def error(self, kind: str, message: str) -> None:
        """Log an error in the same way."""
        self._tell(logging.ERROR, kind, message)

    def _tell(self, level: int, kind: str, message: str) -> None:
        now = self._clock()
        if now - self._said.get(kind, -_SAY_AGAIN_S) < _SAY_AGAIN_S:
            self._unsaid[kind] += 1
            return
        self._said[kind] = now
        unsaid = self._unsaid.pop(kind, 0)
        self._log.log(
            level, "%s%s", message, f" (and {unsaid} more of this kind since the last line)" if unsaid else ""
        )


class Throttle(logging.Filter):
    """Lets each message of a foreign library through once a minute, whatever its arguments are."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be logged."""
        kind, now = (record.name, str(record.msg)[:_LONGEST_KIND]), self._clock()
        if now - self._said.get(kind, -_SAY_AGAIN_S) < _SAY_AGAIN_S:
            return False
        if len(self._said) >= _MOST_KINDS:
            self._said.clear()
        self._said[kind] = now
        return True
