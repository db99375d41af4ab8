"""How long a whole run takes: `cesar transcribe` against faster-whisper, as processes, in turn, on one recording.

Prints JSON: wall and processor seconds and peak memory (the largest process) of every run, the medians, and the
ratio of the medians. Use a quiet machine; quote the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.clips import TEST_AUDIO
from cesar.config import load
from cesar.weights.store import locate

FASTER_WHISPER = """
import sys
from faster_whisper import BatchedInferencePipeline, WhisperModel
weights, recording, kind = sys.argv[1:]
model = WhisperModel(weights, device="cpu", compute_type="int8")
if kind == "batched":
    segments, _ = BatchedInferencePipeline(model).transcribe(recording, beam_size=1, batch_size=8)
else:
    segments, _ = model.transcribe(recording, beam_size=5)
print("".join(segment.text for segment in segments))
"""


@dataclass(frozen=True)
class Run:
    """One process from start to end."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def run(command: Sequence[str]) -> Run:
    """Run a command to its end, with everything it starts."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[0]} failed: {status}")
    return Run(time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def medians(runs: Sequence[Run]) -> dict[str, float]:
    """The median of each figure."""
    return {name: round(statistics.median(asdict(one)[name] for one in runs), 2) for name in asdict(runs[0])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recording", type=Path, default=TEST_AUDIO / "printing-lj.m4a")
    parser.add_argument("--model", default="base")
    parser.add_argument("--beam-size", default="5")
    parser.add_argument("--against", choices=["sequential", "batched"], default="sequential")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    weights = locate(arguments.model, store=load().models_dir, allow_network=False).directory
    recording = str(arguments.recording)
    beam = ["--beam-size", arguments.beam_size]
    ours = [sys.executable, "-m", "cesar", "transcribe", "-q", "-m", arguments.model, *beam, recording]
    theirs = [sys.executable, "-c", FASTER_WHISPER, str(weights), recording, arguments.against]
    pairs = [(run(ours), run(theirs)) for _ in range(arguments.runs + 1)][1:]  # the first pair warms the caches
    us, them = medians([pair[0] for pair in pairs]), medians([pair[1] for pair in pairs])
    result = {
        "recording": arguments.recording.name,
        "model": arguments.model,
        "cesar": us,
        f"faster-whisper {arguments.against}": them,
        "times faster": round(them["wall_s"] / us["wall_s"], 2),
        "processor time": round(us["cpu_s"] / them["cpu_s"], 2),
        "runs": [{"cesar": asdict(a), "faster-whisper": asdict(b)} for a, b in pairs],
    }
    json.dump(result, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
