"""The job service: what a queued transcription is, how it is stored, and how it is run.

The names below are imported when they are first used (PEP 562), so that `import cesar.api.models` loads no database.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cesar.api.models import Job, JobStatus
    from cesar.api.repository import JobRepository
    from cesar.api.worker import BackgroundWorker

__all__ = ["BackgroundWorker", "Job", "JobRepository", "JobStatus"]

_HOMES = {
    "BackgroundWorker": "cesar.api.worker",
    "Job": "cesar.api.models",
    "JobRepository": "cesar.api.repository",
    "JobStatus": "cesar.api.models",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
