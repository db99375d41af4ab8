"""The memory of a transcription by the length of the recording.

    scripts/bench memory --recording FILE [--models front-end tiny.en base] [--lengths 10m 1h 10h 24h] [--forms wav mp3]

The speech of the recording is repeated to each length without encoding it again. `front-end` is everything except the
model: decoding, speech detection, chunking and features, with an engine that answers from a file. Prints JSON, and a
table on standard error: the peak of the command and its child together (proportional set size, read from /proc five
times per second), and the peak of each: the larger one, the child, as reported by the system (ru_maxrss).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Process
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from benchmarks.processes import show

EVERY_S = 0.2
UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Peak:
    """The peak memory of a run, in MiB."""

    together: float
    parent: float
    child: float


def measured(command: list[str]) -> tuple[Peak, float]:
    """Run a command; return its peak memory and its seconds."""
    begun = time.perf_counter()
    together, parent = 0.0, 0.0
    with TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        while True:
            together = max(together, sum(kib(pid, "smaps_rollup", "Pss:") for pid in tree(process.pid)))
            parent = max(parent, kib(process.pid, "status", "VmHWM:"))
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            time.sleep(EVERY_S)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if status:
            raise SystemExit(f"{' '.join(command)} failed: {errors.read().decode(errors='replace')}")
    sizes = (round(size / 1024, 1) for size in (together, parent, usage.ru_maxrss))
    return Peak(*sizes), round(time.perf_counter() - begun, 1)


def tree(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))


def kib(pid: int, file: str, name: str) -> float:
    """Return a figure in KiB from /proc; 0 if the process is gone."""
    with suppress(OSError):
        _, _, rest = Path(f"/proc/{pid}/{file}").read_text().partition(name)
        return float(rest.split()[0]) if rest else 0.0
    return 0.0


def write_wav(source: Path, target: Path, seconds: float) -> None:
    """Repeat a recording as WAV (16 kHz, mono, 16 bit) by writing its frames again."""
    import av  # only in the process that writes

    resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
    with av.open(str(source), "r") as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    content = b"".join(part.to_ndarray().tobytes() for part in [*frames, *resampler.resample(None)])
    with wave.open(str(target), "wb") as file:
        file.setparams((1, 2, 16_000, round(seconds * 16_000), "NONE", ""))
        for _ in range(round(seconds * 32_000) // len(content)):
            file.writeframesraw(content)
        file.writeframesraw(content[: round(seconds * 32_000) % len(content) // 2 * 2])


def write_mp3(source: Path, target: Path, seconds: float) -> None:
    """Encode a recording as MP3 once, and write its packets repeatedly."""
    import av

    once = target.with_name("once.mp3")
    with av.open(str(source), "r") as container, av.open(str(once), "w") as file:
        encoder = file.add_stream("mp3", rate=16_000, layout="mono", bit_rate=32_000)
        resampler = av.AudioResampler(format="s16p", layout="mono", rate=16_000)
        for frame in [*container.decode(audio=0), None]:
            for part in resampler.resample(frame):
                file.mux(encoder.encode(part))
        file.mux(encoder.encode(None))
    with av.open(str(once), "r") as container, av.open(str(target), "w") as file:
        stream = container.streams.audio[0]
        packets = [(bytes(packet), packet.duration) for packet in container.demux(stream) if packet.size]
        copied, at = file.add_stream_from_template(stream), 0
        assert stream.time_base is not None
        while True:
            for content, duration in packets:
                if at * stream.time_base >= seconds:
                    return
                packet = av.Packet(content)
                packet.pts = packet.dts = at
                packet.duration, packet.time_base, packet.stream = duration or 0, stream.time_base, copied
                file.mux(packet)
                at += packet.duration


FORMS: dict[str, Callable[[Path, Path, float], None]] = {"wav": write_wav, "mp3": write_mp3}


def make(form: str, source: Path, target: Path, seconds: float) -> None:
    """Write a recording in a separate process: the memory of this one counts in the peak of its children."""
    writing = Process(target=FORMS[form], args=(source, target, seconds))
    writing.start()
    writing.join()
    if writing.exitcode:
        raise SystemExit(f"{target.name} can't be made")


def seconds_of(length: str) -> float:
    """Parse a length: 90s, 10m, 24h."""
    return float(length[:-1]) * UNITS[length[-1]]


def measure(asked: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measure every model with every format and length; each file is created, used by all models, and deleted."""
    script = folder / "words.json"
    script.write_text(json.dumps({"language": "en", "segments": [{"start": 0.5, "end": 1.0, "text": "Words."}]}))
    rows: list[dict[str, Any]] = []
    for length in asked.lengths:
        for form in asked.forms:
            recording = folder / f"{length}.{form}"
            make(form, asked.recording, recording, seconds_of(length))
            for model in asked.models:
                name = f"scripted:{script}" if model == "front-end" else model
                command = [sys.executable, "-m", "cesar", "transcribe", "-q", "--offline", "-m", name, str(recording)]
                sys.stderr.write(f"{model}, {length}, {form}\n")
                peak, took_s = measured(command)
                about = {"model": model, "length": length, "form": form}
                sizes = {"together, MiB": peak.together, "child, MiB": peak.child, "parent, MiB": peak.parent}
                rows.append(about | sizes | {"took, s": took_s})
            recording.unlink()
    return sorted(rows, key=lambda row: (asked.models.index(row["model"]), asked.forms.index(row["form"])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", type=Path, required=True, help="speech to repeat: ten minutes are best")
    parser.add_argument("--models", "--model", nargs="+", default=["front-end", "tiny.en", "base"])
    parser.add_argument("--lengths", nargs="+", default=["10m", "1h", "10h", "24h"])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=["wav"])
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        rows = measure(asked, Path(folder))
    show("Memory against length", rows)
    print(json.dumps({"cores": os.cpu_count(), "python": sys.version.split()[0], "runs": rows}, indent=1))


if __name__ == "__main__":
    main()
