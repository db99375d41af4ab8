"""How a run ends: the exit code of every error, and the one line that reports it.

Imports no more than click: every run needs it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click

from cesar.errors import (
    CesarError,
    DatabaseError,
    DiskFull,
    InputError,
    Interrupted,
    ModelError,
    OutputError,
    QueueError,
    RecognitionError,
    ServiceError,
    UsageError,
)
from cesar.files.disk import is_disk_full

EXIT_CODES: dict[type[CesarError], int] = {
    CesarError: 1,
    UsageError: 2,
    InputError: 3,
    OutputError: 3,
    ModelError: 4,
    RecognitionError: 5,
    QueueError: 6,
    DatabaseError: 6,
    ServiceError: 7,
    Interrupted: 130,
}
"""Exit code by error class; a class that is not listed has that of its nearest parent."""


class Stopped(KeyboardInterrupt):
    """Raised by a termination signal; unwinds the stack as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How the program ends: its exit code, and what it prints on standard error."""

    code: int
    error_code: str = ""
    message: str = ""
    """Nothing is printed if empty."""
    hint: str = ""

    @property
    def line(self) -> str:
        """Message and hint as one line."""
        stop = "" if self.message.endswith((".", "?", "!")) else "."
        return one_line(f"cesar: {self.message}{stop} {self.hint}".rstrip())

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of the `--json-lines` event."""
        return {
            "code": self.error_code,
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.code,
        }


def exit_code(error: CesarError) -> int:
    """Return the exit code of an error: that of the nearest class in the table."""
    if isinstance(error.__cause__, Stopped):
        return 128 + error.__cause__.number
    return next(EXIT_CODES[cls] for cls in type(error).__mro__ if cls in EXIT_CODES)


def describe(error: BaseException) -> ExitStatus:
    """Return the exit status for whatever ended the run."""
    match error:
        case click.exceptions.Exit():
            end = ExitStatus(error.exit_code)
        case click.ClickException():
            end = _describe_usage_error(error)
        case CesarError():
            end = ExitStatus(exit_code(error), error.code, error.message, error.hint)
        case Stopped():
            end = ExitStatus(128 + error.number, Interrupted.code, "stopped")
        case KeyboardInterrupt() | click.Abort():
            end = ExitStatus(EXIT_CODES[Interrupted], Interrupted.code, "interrupted")
        case BrokenPipeError():
            end = ExitStatus(EXIT_CODES[OutputError])  # the reader left on purpose, as `head` does
        case OSError() if is_disk_full(error):
            where = f" for {error.filename}" if error.filename else ""
            hint = "Free some space and run the same command again."
            end = ExitStatus(EXIT_CODES[OutputError], DiskFull.code, f"no space is left{where}", hint)
        case PermissionError() if error.filename:
            hint = "Run Cesar as the user who owns it, or check its permissions and those of its folders."
            end = ExitStatus(
                EXIT_CODES[OutputError], OutputError.code, f"{error.filename} can't be used: permission denied", hint
            )
        case _:
            message = f"internal error: {type(error).__name__}: {error}"
            hint = "Run it again with -v for details, and please report it."
            end = ExitStatus(EXIT_CODES[CesarError], CesarError.code, message, hint)
    return end


def _describe_usage_error(error: click.ClickException) -> ExitStatus:
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = context.command_path if context else "cesar"
    message, hint = error.format_message(), ""
    if isinstance(error, click.NoSuchOption):
        from cesar.cli.suggestions import describe_option

        message, hint = describe_option(error)
    return ExitStatus(EXIT_CODES[UsageError], UsageError.code, message, f"{hint} See `{command} --help`.".lstrip())


def report_error(status: ExitStatus, error: BaseException, *, as_json: bool, with_traceback: bool) -> None:
    """Report on standard error how the run ended, in one line whatever the message contains."""
    internal = status.code == EXIT_CODES[CesarError]
    details = "".join(traceback.format_exception(error)) if internal and with_traceback else ""
    with suppress(OSError):  # standard error may be closed
        if as_json and status.message:
            event = {"event": "error", **status.fields} | ({"traceback": details} if details else {})
            click.echo(json.dumps(event), err=True)
        elif status.message:
            click.echo(f"{details}{status.line}", err=True)


def one_line(text: str) -> str:
    r"""Return the text on one line: line breaks and other control characters become escapes.

    >>> one_line("two\nlines") == r"two\nlines"
    True
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def unwind_on_signals() -> None:
    """Make SIGTERM and SIGHUP end the run as Ctrl-C does, with clean-up; their exit codes are 143 and 129."""

    def stop(number: int, _frame: object) -> None:
        raise Stopped(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # leave it ignored under nohup
            signal.signal(number, stop)


def abandon_stdout() -> None:
    """Discard what standard output still buffers, so that the interpreter's last flush can't fail."""
    with suppress(OSError, ValueError, AttributeError):  # closed already, or not a real file
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
