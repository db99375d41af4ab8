"""A warm `AudioTranscriber`: `python -m benchmarks.speed.warm MODEL RECORDING`.

Transcribes once to warm up, then ten times; prints the seconds of each from call to text as JSON.
"""

from __future__ import annotations

import json
import sys
import time

from cesar import AudioTranscriber

WARM_RUNS = 10


def main() -> None:
    model, recording = sys.argv[1:]
    transcriber = AudioTranscriber(model)
    print(json.dumps([seconds(transcriber, recording) for _ in range(WARM_RUNS + 1)][1:]))


def seconds(transcriber: AudioTranscriber, recording: str) -> float:
    """Return the seconds from the call to the text."""
    begun = time.perf_counter()
    assert transcriber.transcribe(recording).text
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
