"""Destinations of the package's log: none, standard error on request, or the log of a service.

The log of a service has one line per event, as text or JSON.
"""

from __future__ import annotations

import json
import logging
import traceback
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cesar.api.execution.throttled_log import ThrottleFilter
from cesar.cli.transcription.reporters import write_stderr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICE_LOGGER = "cesar.api"
"""The job service's loggers."""
_LIBRARIES = ("uvicorn", "asyncio")


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        write_stderr(f"cesar: {record.levelname.lower()}: {record.getMessage()}")


class _ServiceLogHandler(logging.Handler):
    def __init__(self, *, as_json: bool, rewrite: Callable[[str], str]) -> None:
        super().__init__()
        self._write = self._as_json if as_json else self._as_text
        self._reword = rewrite

    def emit(self, record: logging.LogRecord) -> None:
        self._write(record, datetime.fromtimestamp(record.created, UTC))

    def _as_text(self, record: logging.LogRecord, at: datetime) -> None:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        write_stderr(f"{at.astimezone():%Y-%m-%d %H:%M:%S} {level}{self._reword(record.getMessage())}")
        for line in _format_traceback(record).splitlines():
            write_stderr(line)

    def _as_json(self, record: logging.LogRecord, at: datetime) -> None:
        line = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if details := _format_traceback(record):
            line["traceback"] = details
        write_stderr(json.dumps(line))


def _format_traceback(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return "".join(traceback.format_exception(error)) if error else ""


@contextmanager
def package_log(*, to_stderr: bool) -> Iterator[None]:
    """Show the log, or keep it and Python's warnings off standard error; transcripts have the warnings that matter."""
    logger = logging.getLogger("cesar")
    handler = _StderrHandler() if to_stderr else logging.NullHandler()
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


@contextmanager
def service_log(log_format: str, rewrite: Callable[[str], str] = str) -> Iterator[None]:
    """Show the job service's log, and no other, as `text` or `json`.

    rewrite: edits the messages of a text log.
    """
    service = logging.getLogger(SERVICE_LOGGER)
    handler = _ServiceLogHandler(as_json=log_format == "json", rewrite=rewrite)
    library_handler = _ServiceLogHandler(as_json=log_format == "json", rewrite=rewrite)
    before = service.level
    service.addHandler(handler)
    service.setLevel(logging.INFO)
    try:
        with package_log(to_stderr=False), _library_logs(library_handler):
            yield
    finally:
        service.setLevel(before)
        service.removeHandler(handler)


@contextmanager
def _library_logs(handler: logging.Handler) -> Iterator[None]:
    """Show warnings of the server and the event loop in the same form, throttled: clients can cause any number."""
    handler.setLevel(logging.WARNING)
    handler.addFilter(ThrottleFilter())
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
