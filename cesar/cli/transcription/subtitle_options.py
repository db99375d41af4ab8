"""The flags of a command that writes subtitles."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from cesar.cli.flags.gathered import gathered
from cesar.errors import UsageError
from cesar.formats import FORMATS
from cesar.formats.subtitles.cues import CUE_DURATION, LINE_LENGTH, LINES, Limit, SubtitleOptions

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class SubtitleFlags:
    """The limits of subtitles as given; None means not given."""

    max_line_length: int | None = None
    max_lines: int | None = None
    max_cue_duration_s: float | None = None

    def options_for(self, formats: Iterable[str]) -> SubtitleOptions:
        """Return the limits. Raises `UsageError` for one out of bounds, or that none of the formats uses."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if given and not any(FORMATS[name].is_subtitles for name in formats):
            flag = "--" + next(iter(given)).removesuffix("_s").replace("_", "-")
            raise UsageError(f"{flag} is for subtitles only", hint="Give the format with -f srt or -f vtt.")
        return SubtitleOptions(**given)


def _flag(names: list[str], metavar: str, kind: type, limit: Limit) -> click.Option:
    formats = ", ".join(name for name, known in FORMATS.items() if known.is_subtitles)
    return click.Option(
        names, metavar=metavar, type=kind, help=f"{formats}: {limit.help}. [default: {limit.default:g}]"
    )


subtitle_flags = gathered(
    "subtitles",
    SubtitleFlags,
    [
        _flag(["--max-line-length"], "N", int, LINE_LENGTH),
        _flag(["--max-lines"], "N", int, LINES),
        _flag(["--max-cue-duration", "max_cue_duration_s"], "S", float, CUE_DURATION),
    ],
)
"""Adds the flags to a command, which gets a `SubtitleFlags` as `subtitles`."""
