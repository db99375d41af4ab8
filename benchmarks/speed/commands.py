"""The commands that are compared, as lists of arguments: Cesar's, and others' with the very same weights."""

from __future__ import annotations

import sys
from pathlib import Path

from cesar.models.store import locate
from cesar.settings.config import load

SEQUENTIAL, BATCHED = "faster-whisper, sequential", "faster-whisper, batched"


def weights(model: str) -> Path:
    """The folder of a model that is on this machine."""
    return locate(model, store=load().models_dir, allow_network=False).directory


def cesar(model: str, recording: Path, *options: str) -> list[str]:
    """`cesar transcribe`, whose text goes to standard output."""
    return [sys.executable, "-m", "cesar", "transcribe", "--offline", "-m", model, *options, str(recording)]


def faster(kind: str, model: str, recording: Path) -> list[str]:
    """A program around faster-whisper; the kinds are in `benchmarks.speed.faster`."""
    return [sys.executable, "-m", "benchmarks.speed.faster", kind, str(weights(model)), str(recording)]


def whisper_ctranslate2(model: str, recording: Path, folder: Path) -> list[str]:
    """The command line over faster-whisper; its text goes to the folder."""
    program = str(Path(sys.executable).with_name("whisper-ctranslate2"))
    asked = ["--model_directory", str(weights(model)), "--device", "cpu", "--compute_type", "int8"]
    return [program, str(recording), *asked, "--output_format", "txt", "--output_dir", str(folder)]
