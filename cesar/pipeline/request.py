"""What the pipeline takes and returns. `cesar.runner.messages` sends the same values between the processes.

The parent process imports this module, and so it imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cesar.options import TranscribeOptions


@dataclass(frozen=True, slots=True)
class Request:
    """One recording to transcribe."""

    path: Path
    options: TranscribeOptions
    done: tuple[tuple[float, float], ...] = ()
    """Start and end of the chunks whose results the caller has from an earlier run."""
    max_duration_s: float | None = None
    """Longest recording to take, by its decoded sound."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known when the last chunk is finished."""

    language: str
    language_probability: float
    duration: float
    timings: dict[str, float]
    warnings: tuple[str, ...]
    recorded_at: str | None = None
    """When the recording was made, by the file's tags."""
