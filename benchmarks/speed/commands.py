"""The commands to compare, as lists of arguments: Cesar's, and those of other programs with the same weights."""

from __future__ import annotations

import sys
from pathlib import Path

from cesar.models.store import locate
from cesar.settings.config import load

SEQUENTIAL, BATCHED = "faster-whisper, sequential", "faster-whisper, batched"


def weights(model: str) -> Path:
    """Return the folder of an installed model."""
    return locate(model, store=load().models_dir, allow_network=False).directory


def cesar(model: str, recording: Path, *options: str) -> list[str]:
    """Return `cesar transcribe`, with its text on standard output."""
    return [sys.executable, "-m", "cesar", "transcribe", "--offline", "-m", model, *options, str(recording)]


def faster(kind: str, model: str, recording: Path) -> list[str]:
    """Return a program that uses faster-whisper; the kinds are in `benchmarks.speed.faster`."""
    return [sys.executable, "-m", "benchmarks.speed.faster", kind, str(weights(model)), str(recording)]


def whisper_ctranslate2(model: str, recording: Path, folder: Path) -> list[str]:
    """Return the command line of whisper-ctranslate2, with its text in the folder."""
    program = str(Path(sys.executable).with_name("whisper-ctranslate2"))
    asked = ["--model_directory", str(weights(model)), "--device", "cpu", "--compute_type", "int8"]
    return [program, str(recording), *asked, "--output_format", "txt", "--output_dir", str(folder)]
