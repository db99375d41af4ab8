"""The key under which an earlier result is found: the fingerprint that a worker gives its checkpoints."""

from __future__ import annotations

from dataclasses import replace

from cesar.api.models import Job
from cesar.api.queue.fingerprint import fingerprint_of
from cesar.errors import CesarError
from cesar.settings.config import Settings
from cesar.transcriber import find_engine


def result_key(job: Job, settings: Settings) -> str | None:
    """Return the key for a job whose recording has arrived; None if its model is not installed.

    Reads the model's files, and never uses the network: call it in a thread.
    """
    if job.audio_digest is None:
        return None
    try:
        engine = find_engine(job.model_size, replace(settings, offline=True))
        return fingerprint_of(job.audio_digest, engine, job.options)
    except (CesarError, OSError):
        return None  # the worker will meet the same problem, and report it better
