"""SubRip subtitles, the format that almost every player reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cesar.formats.subtitles.cues import Cue, cues
from cesar.formats.timecode import timecode

if TYPE_CHECKING:
    from cesar.formats.subtitles.cues import SubtitleOptions
    from cesar.transcript import Transcript


def render(transcript: Transcript, subtitles: SubtitleOptions | None = None) -> str:
    """Render numbered cues, separated by empty lines; "" when nothing was said."""
    return "\n".join(_block(number, cue) for number, cue in enumerate(cues(transcript, subtitles), start=1))


def _block(number: int, cue: Cue) -> str:
    # SubRip has no escapes, and players may parse any line with the arrow as times.
    text = "\n".join(cue.lines).replace("-->", "->")
    return f"{number}\n{timecode(cue.start, ',')} --> {timecode(cue.end, ',')}\n{text}\n"
