"""Troubles that come again and again: each kind is logged once a minute."""

from __future__ import annotations

import logging
import time

from cesar.errors import CesarError

_SAY_AGAIN_S = 60.0


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
