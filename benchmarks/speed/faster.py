"""faster-whisper as a program: `python -m benchmarks.speed.faster KIND WEIGHTS RECORDING`.

KIND is `sequential` (its default, beam size 5), `words` (the same with word timestamps), `batched` (its fastest: beam
size 1, eight windows at once), `first` (sequential; stops at the first segment) or `warm` (a run to warm up, then
ten; prints the seconds of each as JSON).
"""

from __future__ import annotations

import json
import sys
import time

from faster_whisper import BatchedInferencePipeline, WhisperModel

WARM_RUNS = 10


def main() -> None:
    kind, weights, recording = sys.argv[1:]
    model = WhisperModel(weights, device="cpu", compute_type="int8")
    match kind:
        case "sequential" | "words":
            segments, _ = model.transcribe(recording, beam_size=5, word_timestamps=kind == "words")
            print("".join(segment.text for segment in segments))
        case "batched":
            segments, _ = BatchedInferencePipeline(model).transcribe(recording, beam_size=1, batch_size=8)
            print("".join(segment.text for segment in segments))
        case "first":
            segments, _ = model.transcribe(recording, beam_size=5)
            print("segment:", next(iter(segments)).text, flush=True)
        case "warm":
            print(json.dumps([seconds(model, recording) for _ in range(WARM_RUNS + 1)][1:]))


def seconds(model: WhisperModel, recording: str) -> float:
    """Return the seconds from the call to the text."""
    begun = time.perf_counter()
    segments, _ = model.transcribe(recording)
    assert "".join(segment.text for segment in segments)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
