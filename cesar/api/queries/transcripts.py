"""A job's transcript, assembled from what the queue stores: the finished chunks and the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from cesar.api.models import Job, JobStatus
from cesar.errors import QueueError
from cesar.ledger import whole_ledger
from cesar.transcript import Chunk, ModelIdentity, Origin, Transcript

_UNKNOWN = "unknown"


def transcript_of(job: Job, chunks: Sequence[Chunk]) -> Transcript:
    """Return the transcript of a job; for a completed job it is what `AudioTranscriber.transcribe` would return.

    chunks: all that `JobRepository.chunks` returns. Until the job is completed, the transcript is partial: its ledger
    ends with the last chunk, its language is the requested one, and its model has only a name. Raises `QueueError` if
    the job has a text but no chunks, so that it is not mistaken for silence.
    """
    is_partial = job.status is not JobStatus.COMPLETED
    if job.result_text and not chunks:
        raise QueueError(f"only the text of job {job.id} is stored", hint="Use --transcript.")
    outcome: dict[str, Any] = job.outcome or {}
    options = job.options
    reached = chunks[-1].end if chunks else options.start
    duration = outcome.get("duration") or max(job.duration or 0.0, reached)
    return Transcript(
        segments=tuple(segment for chunk in chunks for segment in chunk.segments),
        language=job.detected_language or options.language or _UNKNOWN,
        language_probability=outcome.get("language_probability") or 0.0,
        duration=duration,
        model=_model(job, outcome),
        settings=options.to_dict(),
        timings=outcome.get("timings") or {},
        warnings=tuple(outcome.get("warnings") or ()),
        ledger=whole_ledger(chunks, reached if is_partial else duration, start=options.start, end=options.end),
        is_partial=is_partial,
        origin=_origin(job, outcome),
    )


def _origin(job: Job, outcome: dict[str, Any]) -> Origin:
    """Return the recording's origin; the time of a stored copy says nothing about when it was made."""
    origin = replace(Origin(**(outcome.get("origin") or {})), recording=PurePath(job.name).name or None)
    if job.audio_digest is not None and origin.recorded_at_source == "file":
        return replace(origin, recorded_at=None, recorded_at_source=None)
    return origin


def _model(job: Job, outcome: dict[str, Any]) -> ModelIdentity:
    if known := outcome.get("model"):
        return ModelIdentity(**known)
    return ModelIdentity(job.model_size, _UNKNOWN, "", _UNKNOWN, _UNKNOWN)
