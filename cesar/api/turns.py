"""Who has the recogniser: `Turns`; and which jobs are fetched beside it: `Fetches`. Both belong to one event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from cesar.api.models import Job
from cesar.errors import Interrupted


class Turns:
    """One job has the recogniser at a time; of those that wait, the first in the queue's order is next."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        """Set while nobody has the recogniser, or waits for it."""
        self.free.set()
        self._holder: str | None = None
        self._waiting: dict[str, tuple[tuple[int, int], asyncio.Event]] = {}

    async def take(self, job: Job, stopped: asyncio.Event) -> None:
        """Wait for the recogniser, and have it until `leave`. Raises `Interrupted` when stopped meanwhile."""
        turn = asyncio.Event()
        self._waiting[job.id] = (-job.priority, job.seq), turn
        self._pass_on()
        waits = [asyncio.create_task(turn.wait()), asyncio.create_task(stopped.wait())] if not turn.is_set() else []
        try:
            if waits:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            if not turn.is_set():
                self.leave(job)
        if not turn.is_set():
            raise Interrupted("the work was stopped")

    def leave(self, job: Job) -> None:
        """Pass the recogniser on, if the job has it; else wait for it no longer."""
        self._waiting.pop(job.id, None)
        if self._holder == job.id:
            self._holder = None
        self._pass_on()

    def _pass_on(self) -> None:
        if self._holder is None and self._waiting:
            self._holder = min(self._waiting, key=lambda job_id: self._waiting[job_id][0])
            self._waiting.pop(self._holder)[1].set()
        if self._holder is None:
            self.free.set()
        else:
            self.free.clear()


class Fetches:
    """The jobs whose recordings are being fetched, while others are recognised."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: dict[str, tuple[Job, asyncio.Event]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        """All that they have left to do, recognition included."""

    @property
    def ids(self) -> list[str]:
        """The jobs, in the order in which their fetches began."""
        return list(self._under_way)

    @property
    def room(self) -> Mapping[str, Any]:
        """What `get_next_queued` is to be told of which jobs have room; nothing if all have."""
        if len(self._under_way) >= self._most:
            return {"may_fetch": False}
        counts = Counter(job.submitter for job, _ in self._under_way.values())
        most = max(1, self._most - 1)  # whoever names slow addresses leaves room for others
        full = frozenset(submitter for submitter, count in counts.items() if count >= most)
        return {"no_fetch_for": full} if full else {}

    def begin(self, job: Job, work: asyncio.Task[None]) -> asyncio.Event:
        """Note that a job is being fetched; give what is set when that is over."""
        over = asyncio.Event()
        self._under_way[job.id] = job, over
        self.tasks.add(work)
        work.add_done_callback(self.tasks.discard)
        work.add_done_callback(lambda _: self.end(job))
        return over

    def end(self, job: Job) -> None:
        """Note that a job's recording is here, or won't come."""
        if (found := self._under_way.pop(job.id, None)) is not None:
            found[1].set()
