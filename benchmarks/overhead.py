"""The overhead of the queue: a job from submission to completion, against calling `AudioTranscriber` directly.

Both transcribe the same recording of 60 s with the same warm child process, and alternate in going first. Prints JSON:
the medians, their ratio, the median of the ratios per round, and the overhead in milliseconds, which is clearest with
`scripted:` (an engine that answers from a file, without recognition).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.clips import TEST_AUDIO
from cesar import AudioTranscriber
from cesar.api import BackgroundWorker, Job, JobRepository, JobStatus
from cesar.pipeline.audio.decode import BLOCK_SAMPLES, Recording
from cesar.pipeline.samples import SAMPLE_RATE

MINUTE_S = 60
TARGET = 1.03


def write_minute(path: Path, recording: Path = TEST_AUDIO / "printing-lj.m4a") -> Path:
    """Write the first 60 s of a recording as a WAV file of 16 kHz."""
    source = Recording(recording)
    blocks = list(islice(source.blocks(), MINUTE_S * SAMPLE_RATE // BLOCK_SAMPLES))
    source.close()
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes((np.clip(np.concatenate(blocks), -1, 1) * 32767).astype("<i2").tobytes())
    return path


class Watched(JobRepository):
    """A repository that signals when the outcome of a job is on disk."""

    def __init__(self, database: Path) -> None:
        super().__init__(database)
        self.over: asyncio.Queue[Job] = asyncio.Queue()

    async def update(self, job: Job) -> Job:
        written = await super().update(job)
        if job.status.is_final:
            self.over.put_nowait(job)
        return written


async def through_the_queue(repository: Watched, recording: Path, model: str) -> float:
    """Return the seconds from the submission of a job to its completion."""
    begun = time.perf_counter()
    await repository.create(Job(audio_path=str(recording), model_size=model))
    job = await repository.over.get()
    seconds = time.perf_counter() - begun
    if job.status is not JobStatus.COMPLETED:
        raise SystemExit(f"the job failed: {job.error_message}")
    return seconds


async def directly(transcriber: AudioTranscriber, recording: Path) -> float:
    """Return the seconds of the same work without a queue; the event loop stays responsive, as in a service."""
    begun = time.perf_counter()
    await asyncio.to_thread(transcriber.transcribe, recording)
    return time.perf_counter() - begun


async def compare(model: str, folder: Path, rounds: int) -> dict[str, object]:
    """Run both in alternation; the first round is for warming up."""
    recording = write_minute(folder / "minute.wav")
    repository = Watched(folder / f"{abs(hash(model))}.db")
    await repository.connect()
    worker = BackgroundWorker(repository)
    working = asyncio.create_task(worker.run())
    transcriber = AudioTranscriber(model)
    pairs: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        if number % 2:
            queued = await through_the_queue(repository, recording, model)
            direct = await directly(transcriber, recording)
        else:
            direct = await directly(transcriber, recording)
            queued = await through_the_queue(repository, recording, model)
        pairs.append((queued, direct))
    await worker.shutdown()
    await working
    await repository.close()
    return summary(pairs[1:])


def summary(pairs: Sequence[tuple[float, float]]) -> dict[str, object]:
    queued, direct = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    return {
        "rounds": len(pairs),
        "queue_s": round(queued, 4),
        "direct_s": round(direct, 4),
        "ratio_of_medians": round(queued / direct, 4),
        "median_of_ratios": round(statistics.median(a / b for a, b in pairs), 4),
        "added_ms": round(statistics.median(a - b for a, b in pairs) * 1000, 1),
        "pairs_s": [[round(a, 4), round(b, 4)] for a, b in pairs],
    }


def write_script(path: Path) -> str:
    """Write a script with a sentence every five seconds; return the name of the model."""
    lines = [{"start": at, "end": at + 4.0, "text": "Words that stand for words."} for at in range(0, MINUTE_S, 5)]
    path.write_text(json.dumps({"language": "en", "segments": lines}))
    return f"scripted:{path}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["tiny.en", "base"])
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = {model: model for model in arguments.models} | {"scripted": write_script(folder / "script.json")}
        results = {name: asyncio.run(compare(model, folder, arguments.rounds)) for name, model in models.items()}
    json.dump({"target_ratio": TARGET, "models": results}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
