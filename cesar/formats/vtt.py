"""WebVTT subtitles, the format of the web's <track> element (W3C, https://www.w3.org/TR/webvtt1/)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cesar.formats.subtitles.cues import Cue, cues
from cesar.formats.timecode import timecode

if TYPE_CHECKING:
    from cesar.formats.subtitles.cues import SubtitleOptions
    from cesar.transcript import Transcript

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def render(transcript: Transcript, subtitles: SubtitleOptions | None = None) -> str:
    """Render the header and the cues, each preceded by an empty line."""
    return "\n".join(["WEBVTT\n", *(_block(cue) for cue in cues(transcript, subtitles))])


def _block(cue: Cue) -> str:
    # With ">" escaped, no text can contain the arrow that would start a new cue.
    text = "\n".join(cue.lines).translate(_ESCAPES)
    return f"{timecode(cue.start, '.')} --> {timecode(cue.end, '.')}\n{text}\n"
