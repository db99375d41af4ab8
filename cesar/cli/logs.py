"""Where the package's log goes while a command runs: to standard error if it is asked for, else nowhere."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cesar.cli.events import write_stderr

if TYPE_CHECKING:
    from collections.abc import Iterator


class _ErrorStream(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        write_stderr(f"cesar: {record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def log_sent(*, to_stderr: bool) -> Iterator[None]:
    """Show the log, or keep it and Python's warnings off standard error; what matters is in the transcript."""
    logger = logging.getLogger("cesar")
    handler = _ErrorStream() if to_stderr else logging.NullHandler()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if to_stderr else logging.WARNING)
    logger.propagate = False
    try:
        with warnings.catch_warnings():
            if not to_stderr:
                warnings.simplefilter("ignore")
            yield
    finally:
        logger.level, logger.propagate = before
        logger.removeHandler(handler)
