"""Synchronous calls as durable jobs: repeated calls of a caller with the same bytes and options share one job.

A caller whose connection broke repeats the call, and joins the queued or running job, or gets its result.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from cesar.api.http.dependencies import Service
from cesar.api.http.openai.wait import until_finished
from cesar.api.http.uploads.result_cache import result_key
from cesar.api.models import Job, JobStatus
from cesar.api.queue.enqueue import SubmissionPolicy
from cesar.errors import (
    BY_CODE,
    CesarError,
    FetchFailed,
    IdempotencyConflict,
    InputError,
    InvalidTransition,
    JobNotFound,
    RecordingChanged,
    RecordingTooLong,
    StaleJob,
    TooManyJobs,
    UsageError,
)

_MAX_TRIES = 20
"""Each try fails only if the job is changed concurrently."""
_PERMANENT = (InputError, UsageError)
_TRANSIENT = (RecordingChanged, RecordingTooLong, FetchFailed)


def deduplication_key(job: Job) -> str:
    """Return the idempotency key of all requests for the same work."""
    work = [job.audio_digest, job.model_size, asdict(job.options)]
    return f"v1:{hashlib.sha256(json.dumps(work).encode()).hexdigest()}"


async def submit_or_join(service: Service, job: Job, upload: Path) -> Job:
    """Return the job that does this work: an existing one, else the given one with its upload.

    A cancelled job, or one that failed for a possibly transient reason, is queued again.
    Raises `TooManyJobs` if the wait would be too long, or the caller has reached their limit.
    """
    job.idempotency_key = deduplication_key(job)
    policy = await _policy(service, job)
    for _ in range(_MAX_TRIES):
        found = await _find_or_create(service, job, upload, policy)
        if found is None:
            continue
        if found.status is JobStatus.PROCESSING and found.cancel_requested_at is not None:
            await _until_cancelled(service, found)
        elif not is_retryable(found):
            return found
        elif policy.refusal is not None:
            raise policy.refusal
        else:
            try:
                return await service.repository.retry(found.id)
            except (InvalidTransition, JobNotFound):
                continue
    raise StaleJob(f"the job {job.id} keeps changing", hint="Send the request again.")


def is_retryable(job: Job) -> bool:
    """Whether a job ended without a result, for a reason that lies neither in the recording nor in the request."""
    if job.status is not JobStatus.ERROR:
        return job.status is JobStatus.CANCELLED
    kind = BY_CODE.get(job.error_code or "", CesarError)
    return not issubclass(kind, _PERMANENT) or issubclass(kind, _TRANSIENT)


async def _find_or_create(service: Service, job: Job, upload: Path, policy: SubmissionPolicy) -> Job | None:
    """Return the job with the key; None if it was deleted concurrently."""
    try:
        found = await service.repository.create(job, upload=upload, policy=policy)
    except IdempotencyConflict:  # the recording has another name or path
        earlier = await service.repository.find_by_key(job.submitter, job.idempotency_key or "")
        if earlier is None:
            return None
        found = earlier
    if _work_of(found) != _work_of(job):
        raise IdempotencyConflict(f"the key {job.idempotency_key!r} was used for another request")
    return found


def _work_of(job: Job) -> tuple[object, ...]:
    return job.submitter, job.audio_digest, job.model_size, job.options


async def _until_cancelled(service: Service, job: Job) -> None:
    try:
        await until_finished(service, job.id)
    except JobNotFound:
        return


async def _policy(service: Service, job: Job) -> SubmissionPolicy:
    key = await asyncio.to_thread(result_key, job, service.settings)
    return SubmissionPolicy(
        key, max_open=service.settings.max_open_jobs, refusal=await _refusal(service, job.model_size)
    )


async def _refusal(service: Service, model_size: str) -> TooManyJobs | None:
    """Return the refusal of a new job that would finish too late; None if the queue is empty, or it would not."""
    estimate = await service.job_presenter.estimate(model_size)
    max_wait_s = service.settings.max_wait_s
    if estimate is None or estimate.starts_in_s == 0 or estimate.ends_in_s <= max_wait_s:
        return None
    error = TooManyJobs(
        f"the response would take about {estimate.ends_in_s:.0f} s, and the limit is {max_wait_s:g} s",
        hint="Send it again after Retry-After, or submit it with POST /transcribe, which does not wait.",
    )
    error.retry_after_s = min(estimate.starts_in_s, estimate.ends_in_s - max_wait_s)
    return error
