"""Wakes waiters for jobs, or for any change: at once if this process made it, soon if another did.

This is only a hint: waiters also poll.
"""

from __future__ import annotations

import asyncio

from cesar.api.storage.database import Database

_POLL_INTERVAL_S = 0.5


class JobNotifier:
    """Sets events when something happens in the queue."""

    def __init__(self, database: Database) -> None:
        self.on_new_job: set[asyncio.Event] = set()
        """Events to set when there may be a new job."""
        self.on_change: set[asyncio.Event] = set()
        """Events to set whenever anything may have changed."""
        self.poller: asyncio.Task[None] | None = None
        self._database = database

    def add(self, wake: asyncio.Event, *, to_changes: bool = False) -> None:
        """Set the event from now on, also when another process changes the database."""
        (self.on_change if to_changes else self.on_new_job).add(wake)
        if self.poller is None and not self._database.location.is_memory:
            self.poller = asyncio.create_task(self._poll())

    def remove(self, wake: asyncio.Event) -> None:
        """Stop setting the event."""
        self.on_new_job.discard(wake)
        self.on_change.discard(wake)
        if not self.on_new_job and not self.on_change and self.poller is not None:
            self.poller.cancel()
            self.poller = None

    def notify_waiting(self) -> None:
        """Wake the waiters for new jobs: there may be one."""
        for wake in self.on_new_job:
            wake.set()

    def notify_change(self) -> None:
        """Wake the waiters for changes."""
        for wake in self.on_change:
            wake.set()

    async def close(self) -> None:
        """Stop polling."""
        if self.poller is not None:
            self.poller.cancel()
            await asyncio.gather(self.poller, return_exceptions=True)
            self.poller = None

    async def _poll(self) -> None:
        before: int | None = None
        while True:
            try:
                counter = await self._database.change_counter()
                if counter != before:  # the first time as well: something may have changed just before
                    self.notify_waiting()
                    self.notify_change()
                before = counter
            except Exception:  # noqa: BLE001, S110 - only a hint
                pass
            await asyncio.sleep(_POLL_INTERVAL_S)
