"""The sound that is transcribed of a recording with several channels."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cesar.options import Track
from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.channels.picker import ChannelPicker
from cesar.pipeline.samples import Samples
from cesar.pipeline.speech.vad import Probabilities


class Picked(NamedTuple):
    """The sound to transcribe."""

    sound: Samples
    probabilities: Probabilities
    warnings: list[str]


def picked(path: Path, track: Track | None = None) -> Picked:
    """Process a file as a transcription does, up to speech detection."""
    with closing(Recording(path, track=track)) as recording:
        picker = ChannelPicker(recording.names)
        sounds, found = zip(*picker.pick(recording.channels()), strict=True)
        probabilities = np.concatenate(found)
        has_speech = bool((probabilities > 0.3).any())
        warnings = [*recording.warnings, *picker.warnings(has_speech=has_speech)]
    return Picked(np.concatenate(sounds), probabilities, warnings)
