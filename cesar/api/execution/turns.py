"""Which job is recognised, and which are fetched meanwhile. Each value belongs to one event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TypedDict

from cesar.api.execution.waiting import wait_for_any
from cesar.api.models import Job
from cesar.api.queue.claims import QueueRank
from cesar.errors import Interrupted


class ClaimLimits(TypedDict, total=False):
    """Limits on what `JobRepository.get_next_queued` claims, as its keyword arguments; absent ones don't limit."""

    may_fetch: bool
    no_fetch_for: frozenset[str]
    before: QueueRank


class RecognitionTurns:
    """Lets one job at a time be recognised; the next is the first waiting job in queue order.

    The events that are set in each state, and what leads to the next:

        no turn, none waiting    free             acquire: the job's turn begins, or it waits for hand_over
        no turn, some waiting    free, awaited    hand_over: the first one's turn begins
        a job has its turn       busy             release: its turn ends

    While the worker dispatches (`is_dispatched`), only the job that it dispatched (`is_next`) gets its turn by itself,
    and others when it hands over, because an earlier one may be in the queue. Otherwise hand_over is automatic.
    """

    def __init__(self) -> None:
        self.free, self.busy = asyncio.Event(), asyncio.Event()
        """Set while no job, or a job, has its turn."""
        self.awaited = asyncio.Event()
        """Set while no job has its turn and some job waits."""
        self.is_dispatched = False
        self._holder: str | None = None
        self._waiting: dict[str, tuple[Job, asyncio.Event]] = {}
        self._update_events()

    @property
    def first(self) -> QueueRank | None:
        """The rank of the first waiting job; None if there is none."""
        job = self._first_waiting()
        return None if job is None else QueueRank(job.priority, job.seq)

    async def acquire(self, job: Job, stopped: asyncio.Event, *, is_next: bool = False) -> None:
        """Wait for the job's turn, which lasts until `release`. Raises `Interrupted` when stopped meanwhile.

        is_next: the worker has dispatched this job; its turn begins at once if no other job has one.
        """
        turn = asyncio.Event()
        self._waiting[job.id] = job, turn
        if is_next and self._holder is None:
            self._grant(job)
        elif not self.is_dispatched:
            self.hand_over()
        self._update_events()
        try:
            if not turn.is_set():
                await wait_for_any(turn, stopped)
        finally:
            if not turn.is_set():
                self.release(job)
        if not turn.is_set():
            raise Interrupted("the work was stopped")

    def release(self, job: Job) -> None:
        """End the job's turn; without one, stop waiting for it."""
        self._waiting.pop(job.id, None)
        if self._holder == job.id:
            self._holder = None
        if not self.is_dispatched:
            self.hand_over()
        self._update_events()

    def hand_over(self) -> None:
        """Begin the turn of the first waiting job, unless a job has its turn."""
        job = self._first_waiting()
        if self._holder is None and job is not None:
            self._grant(job)
            self._update_events()

    def stop_dispatching(self) -> None:
        """Hand over without the worker from now on."""
        self.is_dispatched = False
        self.hand_over()

    def _first_waiting(self) -> Job | None:
        return min((job for job, _ in self._waiting.values()), key=lambda job: (-job.priority, job.seq), default=None)

    def _grant(self, job: Job) -> None:
        self._holder = job.id
        self._waiting.pop(job.id)[1].set()

    def _update_events(self) -> None:
        is_free = self._holder is None
        for event, is_so in (
            (self.free, is_free),
            (self.busy, not is_free),
            (self.awaited, is_free and self._waiting),
        ):
            event.set() if is_so else event.clear()


class Fetches:
    """The jobs whose recordings are fetched while others are recognised, until their own turn.

    Jobs waiting for it count too: a worker must not hoard recordings that other workers could recognise.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._under_way: dict[str, tuple[Job, asyncio.Event]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        """The tasks of these jobs, including recognition."""

    @property
    def ids(self) -> list[str]:
        """The jobs' ids, in the order in which their fetches began."""
        return list(self._under_way)

    @property
    def free_slots(self) -> int:
        """How many more recordings may be fetched."""
        return max(0, self._limit - len(self._under_way))

    @property
    def full_submitters(self) -> frozenset[str]:
        """The submitters for whose jobs there is no slot."""
        counts = Counter(job.submitter for job, _ in self._under_way.values())
        per_submitter = max(1, self._limit - 1)  # leave room for others beside a submitter of slow addresses
        return frozenset(submitter for submitter, count in counts.items() if count >= per_submitter)

    def claim_limits(self, before: QueueRank | None) -> ClaimLimits:
        """Return what excludes the jobs for which there is no slot, and those that are not ahead of `before`."""
        limits: ClaimLimits = {} if before is None else {"before": before}
        if not self.free_slots:
            limits["may_fetch"] = False
        elif full := self.full_submitters:
            limits["no_fetch_for"] = full
        return limits

    def add(self, job: Job, work: asyncio.Task[None]) -> asyncio.Event:
        """Add a job that is being fetched; return an event set when it gets its turn, or is finished."""
        settled = asyncio.Event()
        self._under_way[job.id] = job, settled
        self.tasks.add(work)
        work.add_done_callback(self.tasks.discard)
        work.add_done_callback(lambda _: self.discard(job))
        return settled

    def discard(self, job: Job) -> None:
        """Remove a job that has its turn, or no longer needs one."""
        if (found := self._under_way.pop(job.id, None)) is not None:
            found[1].set()
