"""Wakes who waits for jobs, or for any change: at once when this program has made it, soon when another one has.

Only a hint. Who waits asks the queue from time to time in any case.
"""

from __future__ import annotations

import asyncio

from cesar.api.storage.database import Database

_LOOK_EVERY_S = 0.5


class Wakeups:
    """The events to be set when something happens in the queue."""

    def __init__(self, database: Database) -> None:
        self.waiting: set[asyncio.Event] = set()
        """Those to be set when there may be a new job."""
        self.watching: set[asyncio.Event] = set()
        """Those to be set whenever anything may have changed."""
        self.looking: asyncio.Task[None] | None = None
        self._database = database

    def add(self, wake: asyncio.Event, *, to_changes: bool = False) -> None:
        """Set the event from now on, also when another process has changed the database."""
        (self.watching if to_changes else self.waiting).add(wake)
        if self.looking is None and not self._database.place.is_memory:
            self.looking = asyncio.create_task(self._look())

    def remove(self, wake: asyncio.Event) -> None:
        """Leave the event alone from now on."""
        self.waiting.discard(wake)
        self.watching.discard(wake)
        if not self.waiting and not self.watching and self.looking is not None:
            self.looking.cancel()
            self.looking = None

    def tell(self) -> None:
        """There may be a new job."""
        for wake in self.waiting:
            wake.set()

    def tell_of_change(self) -> None:
        """Something has changed."""
        for wake in self.watching:
            wake.set()

    async def close(self) -> None:
        """Stop looking."""
        if self.looking is not None:
            self.looking.cancel()
            await asyncio.gather(self.looking, return_exceptions=True)
            self.looking = None

    async def _look(self) -> None:
        before: int | None = None
        while True:
            try:
                counter = await self._database.change_counter()
                if counter != before:  # at first as well: what came just before we looked must not be overlooked
                    self.tell()
                    self.tell_of_change()
                before = counter
            except Exception:  # noqa: BLE001, S110 - only a hint
                pass
            await asyncio.sleep(_LOOK_EVERY_S)
