"""The options of a command that writes subtitles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from cesar.errors import UsageError
from cesar.formats import FORMATS
from cesar.formats.subtitles.cues import CUE_DURATION, LINE_LENGTH, LINES, Limit, SubtitleOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

C = TypeVar("C", bound="Callable[..., object]")


def _option(flag: str, metavar: str, kind: type, limit: Limit) -> Callable[[C], C]:
    return click.option(flag, metavar=metavar, type=kind, help=f"srt, vtt: {limit.help}. [default: {limit.default:g}]")


_OPTIONS = (
    _option("--max-line-length", "N", int, LINE_LENGTH),
    _option("--max-lines", "N", int, LINES),
    _option("--max-cue-duration", "S", float, CUE_DURATION),
)


def subtitle_options(command: C) -> C:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_subtitle_options(
    formats: Iterable[str], *, max_line_length: int | None, max_lines: int | None, max_cue_duration: float | None
) -> SubtitleOptions:
    """Return the layout options of subtitles. None means not given.

    Raises `UsageError` for values out of bounds, and for an option that none of the formats uses.
    """
    given: dict[str, Any] = {
        "max_line_length": max_line_length,
        "max_lines": max_lines,
        "max_cue_duration_s": max_cue_duration,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if given and not any(FORMATS[name].is_subtitles for name in formats):
        flag = "--" + next(iter(given)).removesuffix("_s").replace("_", "-")
        raise UsageError(f"{flag} is for subtitles only", hint="Give the format with -f srt or -f vtt.")
    return SubtitleOptions(**given)
