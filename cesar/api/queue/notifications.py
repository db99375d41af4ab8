"""Wakes who waits for jobs, or for any change: at once when this program has made it, soon when another one has.

Only a hint. Who waits asks the queue from time to time in any case.
"""

from __future__ import annotations

import asyncio

from cesar.api.storage.database import Database

_POLL_INTERVAL_S = 0.5


class JobNotifier:
    """The events to be set when something happens in the queue."""

    def __init__(self, database: Database) -> None:
        self.on_new_job: set[asyncio.Event] = set()
        """Those to be set when there may be a new job."""
        self.on_change: set[asyncio.Event] = set()
        """Those to be set whenever anything may have changed."""
        self.poller: asyncio.Task[None] | None = None
        self._database = database

    def add(self, wake: asyncio.Event, *, to_changes: bool = False) -> None:
        """Set the event from now on, also when another process has changed the database."""
        (self.on_change if to_changes else self.on_new_job).add(wake)
        if self.poller is None and not self._database.location.is_memory:
            self.poller = asyncio.create_task(self._poll())

    def remove(self, wake: asyncio.Event) -> None:
        """Leave the event alone from now on."""
        self.on_new_job.discard(wake)
        self.on_change.discard(wake)
        if not self.on_new_job and not self.on_change and self.poller is not None:
            self.poller.cancel()
            self.poller = None

    def notify_waiting(self) -> None:
        """There may be a new job."""
        for wake in self.on_new_job:
            wake.set()

    def notify_change(self) -> None:
        """Something has changed."""
        for wake in self.on_change:
            wake.set()

    async def close(self) -> None:
        """Stop looking."""
        if self.poller is not None:
            self.poller.cancel()
            await asyncio.gather(self.poller, return_exceptions=True)
            self.poller = None

    async def _poll(self) -> None:
        before: int | None = None
        while True:
            try:
                counter = await self._database.change_counter()
                if counter != before:  # at first as well: what came just before we looked must not be overlooked
                    self.notify_waiting()
                    self.notify_change()
                before = counter
            except Exception:  # noqa: BLE001, S110 - only a hint
                pass
            await asyncio.sleep(_POLL_INTERVAL_S)
