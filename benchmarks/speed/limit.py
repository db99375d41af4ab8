"""How close Cesar comes to the machine's peak performance: `limit`.

The minimum time of Whisper is computed from its shapes, with these assumptions: every window is encoded once and
decoded greedily, in batches of eight. Linear layers multiply in int8, attention and convolutions in float32, each at
the machine's peak for large matrices. A step of the decoder takes as long as the slower of its arithmetic and its
memory traffic: all weights (a byte each) once per step for the batch, and the keys and values of each window for
cross-attention (float32), at the speed of a copy; caches are ignored. Decoding the file, speech detection,
spectrograms, softmax, norms and startup are not counted. Nothing can therefore reach 100 %.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.processes import in_turns, median, run
from benchmarks.speed.commands import cesar
from benchmarks.speed.whole import length_s

TOGETHER = 8
MELS, VOCABULARY = 80, 51_865


@dataclass(frozen=True)
class Shape:
    """The width of the model, and the layers of its encoder and decoder."""

    width: int
    layers: int


SHAPES = {"tiny": Shape(384, 4), "base": Shape(512, 6), "small": Shape(768, 12)}


@dataclass(frozen=True)
class Peaks:
    """The peak performance of the machine, with all cores."""

    float32_gops: float
    int8_gops: float
    copy_gb_s: float

    def seconds(self, *, int8: float = 0, float32: float = 0) -> float:
        """Return the time of that many multiply-adds."""
        return 2 * (int8 / self.int8_gops + float32 / self.float32_gops) / 1e9


def encoder_s(shape: Shape, peaks: Peaks, window_s: float) -> float:
    """Return the time of the encoder and of the keys and values for one window."""
    width, positions = shape.width, 50 * window_s
    linear = (12 + 2) * shape.layers * positions * width**2
    attention = 2 * shape.layers * positions**2 * width
    convolutions = 2 * positions * width * 3 * MELS + positions * width * 3 * width
    return peaks.seconds(int8=linear, float32=attention + convolutions)


def token_s(shape: Shape, peaks: Peaks, window_s: float) -> float:
    """Return the time of one token of one window, as its share of a step."""
    width, positions = shape.width, 50 * window_s
    weights = 14 * shape.layers * width**2 + VOCABULARY * width
    attended = 2 * shape.layers * positions * width
    traffic = weights / TOGETHER + 4 * attended
    return max(peaks.seconds(int8=weights, float32=attended), traffic / peaks.copy_gb_s / 1e9)


def limit(model: str, recording: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Measure the machine's peaks, the minimum time for an hour of such speech, and Cesar's time."""
    shape, hours = SHAPES[model.partition(".")[0]], length_s(recording) / 3600
    measures = {"peaks": partial(run, _program("peaks")), "Cesar": partial(run, cesar(model, recording, "-f", "json"))}
    taken = in_turns(measures, rounds)
    measured = [json.loads(one.text) for one in taken["peaks"]]
    peaks = {name: max(one[name] for one in measured) for name in measured[0]}
    windows: Sequence[float] = json.loads(run([*_program("windows"), str(recording)]).text)
    segments = json.loads(taken["Cesar"][-1].text)["segments"]
    written = sum(2 + len(segment["tokens"]) for segment in segments)  # each between two timestamps
    tokens = written + 4 * len(windows)  # up to three start tokens, and the end
    encoder = sum(encoder_s(shape, Peaks(**peaks), window) for window in windows)
    decoder = tokens * token_s(shape, Peaks(**peaks), sum(windows) / len(windows))
    least, wall_s = encoder + decoder, median((one.wall_s for one in taken["Cesar"]), 3)
    totals = {"windows": len(windows), "tokens": tokens, "encoder, s": encoder, "decoder, s": decoder}
    return {
        model: {
            **peaks,
            "mean window, s": round(sum(windows) / len(windows), 1),
            **{f"{name} an hour": round(total / hours, 1) for name, total in totals.items()},
            "least, s an hour": round(least / hours, 1),
            "Cesar, s an hour": round(wall_s / hours, 1),
            "of the limit, %": round(100 * least / wall_s, 1),
            "runs": [one.figures for one in taken["Cesar"]],
        }
    }


def _program(name: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.speed.{name}"]
