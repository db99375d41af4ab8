"""A worker that some recordings kill, with -9: `python -m tests.faults.poisoned DATABASE [options]`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cesar.api.worker import BackgroundWorker
from tests.faults import worker
from tests.faults.support import ROOT, WorkerProcess

POISON = "poison"
"""What the name of such a recording begins with."""


class PoisonedWorker(BackgroundWorker):
    """Dies as by a bug in native code that runs in its own process."""

    def _run_transcription(self, audio_path: str, model_size: str) -> dict[str, str]:
        if Path(audio_path).name.startswith(POISON):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._run_transcription(audio_path, model_size)


class PoisonedProcess(WorkerProcess):
    """The side of the test."""

    def __init__(self, database: Path, *options: str) -> None:
        self.log = database.with_name(f"poisoned-{time.monotonic_ns()}.log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.poisoned", str(database), *options],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


if __name__ == "__main__":
    worker.BackgroundWorker = PoisonedWorker  # type: ignore[attr-defined]
    worker.main()
