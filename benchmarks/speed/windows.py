"""The length of each of Cesar's windows for a recording, as JSON: `python -m benchmarks.speed.windows RECORDING`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.recognition.recognizer import RecognizeSettings
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.chunking import ChunkSettings, pack
from cesar.pipeline.speech.vad import SpeechDetector, VadSettings, detect_regions


def main() -> None:
    settings = RecognizeSettings()
    probabilities = SpeechDetector().probabilities(Recording(Path(sys.argv[1])).blocks())
    found = []
    for chunk in pack(detect_regions(probabilities, VadSettings()), ChunkSettings()):
        needed = (chunk.end - chunk.start) / SAMPLE_RATE + settings.silence_after_s
        found.append(next((length for length in settings.windows_s if length >= needed), settings.windows_s[-1]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
