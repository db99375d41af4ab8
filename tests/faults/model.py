"""The queue as it should be, in plain Python: `test_model` compares the real one with it.

Nothing is shared with the repository but its errors and the values `Claim` and `JobStatus`. Times are what the caller
says they are. A refused call changes nothing; `Queue.atomically` sees to that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import TypeVar

from cesar.api.models import Claim, JobStatus
from cesar.api.queue.losses import BLAME, MAX_LOST_ALONE, MIN_LOST, loss_probability
from cesar.errors import ClaimLost, IdempotencyConflict, InvalidTransition, JobNotFound, QueueError, StaleJob

T = TypeVar("T")
QUEUED, PROCESSING = JobStatus.QUEUED, JobStatus.PROCESSING
COMPLETED, ERROR, CANCELLED = JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.CANCELLED
LEASE_S = 60.0
NUMBERS = count()
RETRY_DELAY = timedelta(seconds=15)
LONGEST_DELAY = timedelta(minutes=10)
LEGAL = {
    *((QUEUED, after) for after in (PROCESSING, CANCELLED)),
    *((PROCESSING, after) for after in (QUEUED, COMPLETED, ERROR, CANCELLED)),
    *((before, QUEUED) for before in (ERROR, CANCELLED)),
}


@dataclass
class Entry:
    """One job; the fields have the names of the columns."""

    id: str
    seq: int
    audio_path: str
    priority: int
    idempotency_key: str | None
    status: JobStatus = QUEUED
    owner: str | None = None
    attempt: int = 0
    version: int = 0
    beat: int = 0
    failures: int = 0
    lost: int = 0
    begun: int = 0
    losses: int = 0
    run_after: datetime | None = None
    cancel_requested_at: datetime | None = None
    completed_at: datetime | None = None
    result_text: str | None = None
    error_code: str | None = None
    position: float = 0.0
    fingerprint: str | None = None
    chunks: dict[float, tuple[str, int]] = field(default_factory=dict)
    """By start: the text, and the attempt that produced it."""
    events: list[tuple[str | None, str, int, str | None]] = field(default_factory=list)
    """Before, after, attempt, owner."""
    event_numbers: list[int] = field(default_factory=list)
    """When each of them happened, in the order of all jobs' events."""
    losses_at: set[int] = field(default_factory=set)
    """The numbers of the events by which it lost its worker."""

    request: tuple[str, int] = ("", 0)
    """The original request; the priority may have been changed since."""

    @property
    def beat_key(self) -> tuple[int, str | None, int, int]:
        return self.seq, self.owner, self.attempt, self.beat

    def note(self, before: JobStatus | None, owner: str | None) -> None:
        self.events.append((before, self.status, self.attempt, owner))
        self.event_numbers.append(next(NUMBERS))

    def move(self, after: JobStatus, owner: str | None = None) -> None:
        before, former = self.status, self.owner
        if (before, after) not in LEGAL:
            raise InvalidTransition(f"{before} to {after}")
        self.status, self.owner = after, owner
        self.version += 1
        self.note(before, owner or former)

    def claim(self, owner: str) -> None:
        self.attempt += 1
        self.beat += 1
        self.run_after = None
        self.move(PROCESSING, owner)

    def first_told(self, since: int) -> bool | None:
        """Return whether its first outcome since then was a loss or its completion; None if neither."""
        for number, event in zip(self.event_numbers, self.events, strict=True):
            if number > since and (number in self.losses_at or event[:2] == (PROCESSING, COMPLETED)):
                return number in self.losses_at
        return None

    def forget(self) -> None:
        """Reset it: earlier failures do not count."""
        self.failures = self.lost = self.losses = 0
        self.run_after = self.cancel_requested_at = self.completed_at = self.error_code = None

    def end_or(self, after: JobStatus, now: datetime) -> JobStatus:
        """Return it to the queue, or cancel it if that was requested."""
        if self.cancel_requested_at is not None:
            after, self.completed_at = CANCELLED, now
        self.move(after)
        return after


@dataclass
class Watch:
    """What an owner has seen of the others' heartbeats: when each last changed, by its own clock."""

    ticked_at: float
    time: float = 0.0
    since: dict[tuple[int, str | None, int, int], float] = field(default_factory=dict)


@dataclass
class Queue:
    """All jobs, and what each owner has seen of the others' heartbeats."""

    jobs: dict[str, Entry] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    watches: dict[str, Watch] = field(default_factory=dict)
    submitted: int = 0

    def atomically(self, change: Callable[[], T]) -> T:
        before = copy.deepcopy(self.jobs)
        try:
            return change()
        except QueueError:
            self.jobs = before
            raise

    def find(self, job_id: str) -> Entry:
        if job_id not in self.jobs:
            raise JobNotFound(job_id)
        return self.jobs[job_id]

    def fenced(self, job_id: str, claim: Claim) -> Entry:
        if not self.holds(job_id, claim):
            raise ClaimLost(job_id)
        return self.jobs[job_id]

    def holds(self, job_id: str, claim: Claim) -> bool:
        job = self.jobs.get(job_id)
        return job is not None and (job.owner, job.attempt) == (claim.owner, claim.attempt)

    # The verbs, as in `JobRepository`

    def submit(self, job_id: str, request: tuple[str, int], key: str | None) -> str:
        for job in self.jobs.values():
            if key is not None and job.idempotency_key == key:
                if job.request != request:
                    raise IdempotencyConflict(key)
                return job.id
        if job_id in self.jobs:
            raise QueueError(job_id)
        self.submitted += 1
        self.jobs[job_id] = job = Entry(job_id, self.submitted, *request, key, request=request)
        job.note(None, None)
        return job_id

    def claim(self, owner: str, now: datetime, steady: float) -> Entry | None:
        self.take_back(owner, now, steady)
        due = [job for job in self.jobs.values() if job.status is QUEUED and _is_due(job.run_after, now)]
        if not due:
            return None
        first = min(due, key=lambda job: (-job.priority, job.seq))
        first.claim(owner)
        return first

    def take_back(self, owner: str, now: datetime, steady: float) -> None:
        """Reclaim the jobs of dead owners, and those whose heartbeats this owner has seen unchanged for too long."""
        watch = self.tick(owner, steady)
        running = [job for job in self.jobs.values() if job.status is PROCESSING]
        watch.since = {job.beat_key: watch.since.get(job.beat_key, watch.time) for job in running}
        for job in running:
            if job.owner in self.dead or watch.time - watch.since[job.beat_key] > LEASE_S:
                self._lose(job, now)

    def tick(self, owner: str, steady: float) -> Watch:
        """Record that an owner is running. If it was not for long, the others may have slept as well."""
        watch = self.watches.setdefault(owner, Watch(steady))
        watch.time += min(max(0.0, steady - watch.ticked_at), LEASE_S / 4)
        watch.ticked_at = steady
        return watch

    def _lose(self, job: Entry, now: datetime) -> None:
        self._count_loss(job, now, is_begun=job.begun == job.attempt, error_code=None)

    def _count_loss(self, job: Entry, now: datetime, *, is_begun: bool, error_code: str | None) -> None:
        if job.cancel_requested_at is not None:
            job.end_or(CANCELLED, now)
        else:
            job.lost += is_begun
            job.losses += is_begun or job.losses < 7
            if is_begun and self._is_to_blame(job):
                job.error_code, job.completed_at = error_code or "worker_lost", now
                job.move(ERROR)
                if error_code:
                    return
            else:
                job.error_code = error_code or job.error_code
                if job.losses > 1:
                    job.run_after = now + min(RETRY_DELAY / 16 * 2 ** (job.losses - 1), LONGEST_DELAY)
                job.move(QUEUED)
        job.losses_at.add(job.event_numbers[-1])

    def _is_to_blame(self, job: Entry) -> bool:
        if job.lost < MIN_LOST:
            return False
        others = [other for other in self.jobs.values() if other is not job]
        if job.lost >= MAX_LOST_ALONE and not any(o.losses > 0 and not o.status.is_final for o in others):
            return True
        its = zip(job.event_numbers, job.events, strict=True)
        since = min(number for number, event in its if event[1] is PROCESSING and event[2] > job.attempt - job.lost)
        firsts = [first for other in others if (first := other.first_told(since)) is not None]
        among_lost = firsts.count(True) + job.losses - job.lost
        return loss_probability(job.lost, among_lost=among_lost, among_done=firsts.count(False)) <= BLAME

    def mark_begun(self, job_id: str, claim: Claim, position: float) -> None:
        self.beat(job_id, claim, position)
        self.jobs[job_id].begun = claim.attempt

    def requeue_killed(self, job_id: str, claim: Claim, error_code: str, now: datetime) -> JobStatus:
        job = self.fenced(job_id, claim)
        self._count_loss(job, now, is_begun=True, error_code=error_code)
        return job.status

    def beat(self, job_id: str, claim: Claim, position: float) -> bool:
        job = self.fenced(job_id, claim)
        job.beat += 1
        job.position = position
        return job.cancel_requested_at is not None

    def is_cancel_requested(self, job_id: str, claim: Claim) -> bool:
        return self.fenced(job_id, claim).cancel_requested_at is not None

    def checkpoint(self, job_id: str, claim: Claim, position: float, start: float, text: str) -> None:
        self.beat(job_id, claim, position)
        job = self.jobs[job_id]
        job.chunks[start] = (text, job.attempt)
        job.lost = job.losses = 0

    def resume(self, job_id: str, claim: Claim, fingerprint: str) -> list[str]:
        job = self.fenced(job_id, claim)
        if job.fingerprint != fingerprint:
            job.fingerprint, job.chunks, job.position = fingerprint, {}, 0.0
        return [text for _, (text, _) in sorted(job.chunks.items())]

    def update(self, wanted: Entry, claim: Claim | None, owner: str) -> None:
        """Write the outcome of `wanted`, under a claim, or without one if nothing has changed since."""
        if claim is not None:
            if self._is_written(wanted, claim):
                return
            job = self.fenced(wanted.id, claim)
        else:
            job = self.find(wanted.id)
            if job.version != wanted.version:
                raise StaleJob(wanted.id)
            job.priority = wanted.priority
        is_move = wanted.status is not job.status
        if not is_move:
            job.version += 1
        elif wanted.status is PROCESSING:
            if (job.status, PROCESSING) not in LEGAL:
                raise InvalidTransition(wanted.id)
            job.claim(owner)
        else:
            job.move(wanted.status)
        job.result_text, job.error_code, job.completed_at = wanted.result_text, wanted.error_code, wanted.completed_at
        if is_move and job.status is QUEUED and claim is None:
            job.forget()

    def _is_written(self, wanted: Entry, claim: Claim) -> bool:
        """Whether this claim wrote this outcome before, and only the response was lost."""
        job = self.jobs.get(wanted.id)
        if job is None or job.status is not wanted.status or not job.status.is_final:
            return False
        return job.events[-1][2:] == (claim.attempt, claim.owner)

    def retry_later(
        self, job_id: str, claim: Claim, error_code: str, now: datetime
    ) -> tuple[datetime, datetime] | None:
        """Return the range of the job's retry time; None if it is not retried."""
        job = self.fenced(job_id, claim)
        if job.cancel_requested_at is not None:
            job.end_or(CANCELLED, now)
            return None
        job.failures += 1
        job.error_code = error_code
        if job.failures > 3:
            job.completed_at = now
            job.move(ERROR)
            return None
        job.move(QUEUED)
        wait = min(RETRY_DELAY * 2 ** (job.failures - 1), LONGEST_DELAY)
        return now + wait / 2, now + wait

    def release(self, job_id: str, claim: Claim, now: datetime) -> JobStatus:
        return self.fenced(job_id, claim).end_or(QUEUED, now)

    def cancel(self, job_id: str, owner: str, now: datetime, steady: float) -> JobStatus:
        self.take_back(owner, now, steady)
        job = self.find(job_id)
        if job.status is QUEUED:
            job.cancel_requested_at = job.completed_at = now
            job.move(CANCELLED)
        elif job.status is PROCESSING and job.cancel_requested_at is None:
            job.cancel_requested_at = now
            job.version += 1
        return job.status

    def retry(self, job_id: str) -> JobStatus:
        job = self.find(job_id)
        if job.status is PROCESSING:
            raise InvalidTransition(job_id)
        job.move(QUEUED)
        job.forget()
        return job.status

    def delete(self, job_id: str, owner: str, now: datetime, steady: float) -> None:
        self.take_back(owner, now, steady)
        if self.find(job_id).status is PROCESSING:
            raise InvalidTransition(job_id)
        del self.jobs[job_id]

    def prune(self, before: datetime, limit: int) -> int:
        ends = {job.id: job.completed_at for job in self.jobs.values() if job.status.is_final and job.completed_at}
        old = sorted((job_id for job_id, ended_at in ends.items() if ended_at < before), key=ends.__getitem__)[:limit]
        for job_id in old:
            del self.jobs[job_id]
        return len(old)


def _is_due(run_after: datetime | None, now: datetime) -> bool:
    """No delay is longer than `MAX_DELAY`: a later time means that the clock was set back."""
    return run_after is None or run_after <= now or run_after > now + LONGEST_DELAY
