"""Accuracy of language detection by its stated probability, and how often wrong results come with a warning.

Every clip is transcribed whole, and so are short clips from its middle, which are harder. Thresholds were chosen on one
half of each group, by speaker; the other half tests them. Prints tables on standard error and JSON on standard output.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.clips import TEST_AUDIO, Clip, clips
from cesar import AudioTranscriber, TranscribeOptions

_EDGES = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.0)
_LONGEST_S = 40.0
"""Seconds used from the start of longer clips."""


@dataclass(frozen=True)
class Guess:
    """The result for one clip."""

    clip: str
    group: str
    cut_s: float | None
    is_chosen_on: bool
    spoken: str
    detected: str
    probability: float
    is_warned: bool
    has_text: bool

    @property
    def is_right(self) -> bool:
        return self.spoken == self.detected


def is_chosen_on(clip: Clip) -> bool:
    """Return whether the clip is in the half used to choose thresholds, by its speaker or its name."""
    return hashlib.sha256((clip.speaker or clip.name).encode()).digest()[0] % 2 == 0


def guesses(transcriber: AudioTranscriber, chosen: Iterable[Clip], cuts_s: Iterable[float]) -> Iterator[Guess]:
    """Transcribe each clip, whole and shortened."""
    lengths = [None, *cuts_s]
    for clip in chosen:
        for cut_s in lengths:
            if cut_s is not None and clip.duration_s < cut_s + 1:
                continue
            start = 0.0 if cut_s is None else (clip.duration_s - cut_s) / 2
            options = TranscribeOptions(start=start, end=min(start + (cut_s or _LONGEST_S), clip.duration_s))
            found = transcriber.transcribe(clip.path, options)
            yield Guess(
                clip=clip.name,
                group=clip.group,
                cut_s=cut_s,
                is_chosen_on=is_chosen_on(clip),
                spoken=clip.language,
                detected=found.language,
                probability=found.language_probability,
                is_warned=bool(found.warnings),
                has_text=bool(found.segments),
            )


def table(title: str, rows: list[Guess]) -> None:
    """Print the number of correct and wrong results by probability."""
    heard = [row for row in rows if row.detected != "unknown"]
    count = Counter((next(edge for edge in _EDGES if row.probability >= edge), row.is_right) for row in heard)
    wrong = [row for row in heard if not row.is_right]
    unwarned = sum(not row.is_warned for row in wrong)
    sys.stderr.write(
        f"\n{title}: {len(heard)} sounds, {len(wrong)} wrong, {unwarned} of them without a warning; "
        f"{sum(row.is_warned for row in heard if row.is_right)} right with one; "
        f"{sum(not row.has_text for row in rows)} without text\n| probability | right | wrong |\n|---|---|---|\n"
    )
    for edge, above in zip(_EDGES, (1.0, *_EDGES), strict=False):
        sys.stderr.write(f"| {edge:.2f} to {above:.2f} | {count[edge, True]} | {count[edge, False]} |\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", type=Path, default=TEST_AUDIO, help="folder with a manifest.json")
    parser.add_argument("--model", default="base")
    parser.add_argument("--cut", type=float, nargs="*", default=[3.0, 6.0], help="seconds of the cuts")
    parser.add_argument("--half", choices=["chosen-on", "reported"], help="only this half of the clips")
    arguments = parser.parse_args()
    wanted = [
        clip
        for clip in clips(arguments.audio)
        if not clip.is_two_at_once and arguments.half in (None, "chosen-on" if is_chosen_on(clip) else "reported")
    ]
    rows: list[Guess] = []
    for row in guesses(AudioTranscriber(arguments.model), wanted, arguments.cut):
        rows.append(row)
        if not row.is_right:
            sys.stderr.write(f"{row}\n")
    for title, is_chosen in (("chosen on", True), ("reported", False)):
        table(title, [row for row in rows if row.is_chosen_on is is_chosen])
    json.dump([asdict(row) for row in rows], sys.stdout, indent=1)


if __name__ == "__main__":
    main()
