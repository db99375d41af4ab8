"""Waiting for the first of several events and tasks."""

from __future__ import annotations

import asyncio


async def wait_for_any(*events: asyncio.Event | asyncio.Task[object], timeout_s: float | None = None) -> None:
    """Wait until an event is set or a task is done, at most for the timeout. The tasks go on."""
    waits = {asyncio.create_task(event.wait()) if isinstance(event, asyncio.Event) else event for event in events}
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits.difference(events):
            wait.cancel()
