"""Under which key the result of a job would be known already: the fingerprint that the worker gives its work."""

from __future__ import annotations

from dataclasses import replace

from cesar.api.models import Job
from cesar.api.queue.fingerprint import fingerprint_of
from cesar.errors import CesarError
from cesar.settings.config import Settings
from cesar.transcriber import find_engine


def result_key(job: Job, settings: Settings) -> str | None:
    """Give the key of a job whose recording has come; None if its model is not here, so that nothing is known.

    Asks nobody on the network, but looks at the model's files: to be called in a thread.
    """
    if job.audio_digest is None or job.no_cache:
        return None
    try:
        engine = find_engine(job.model_size, replace(settings, offline=True))
        return fingerprint_of(job.audio_digest, engine, job.options)
    except (CesarError, OSError):
        return None  # the worker will meet the same trouble, and tell of it better
