"""`cesar doctor --repair` and `--adopt-recordings`: manual repair of a database and its recordings.

Imports the database libraries, so commands import this module only when they run.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cesar.api.recovery.repair import repair
from cesar.api.storage.location import DatabaseLocation
from cesar.api.storage.recordings import AudioStore
from cesar.cli.queue.local import LocalQueue, database_file
from cesar.cli.transcription.reporters import write_stderr

if TYPE_CHECKING:
    from cesar.api.recovery.repair import RepairReport
    from cesar.settings.config import Settings


def repair_database(settings: Settings) -> None:
    """Salvage what can be read of the queue's database, and report what was saved."""
    file = database_file(settings)
    location = DatabaseLocation.parse(settings.database_location, allow_network=settings.allow_network_fs)
    saved = repair(location, AudioStore(settings.audio_dir))
    if saved is None:
        write_stderr(f"{file} is intact; nothing was done.")
        return
    for line in _describe_salvage(saved, settings):
        write_stderr(line)


def adopt_recordings(settings: Settings) -> None:
    """Assign the recordings in the data folder to the queue's database; report how many have no job."""
    file = database_file(settings)

    async def adopt() -> int:
        queue = LocalQueue(settings)
        try:
            await queue.database.connect()
            return await queue.adopt_recordings()
        finally:
            await queue.close()

    count = asyncio.run(adopt())
    write_stderr(f"The recordings in {settings.audio_dir} now belong to {file}.")
    if count:
        write_stderr(_orphan_warning(count, settings))


def _describe_salvage(saved: RepairReport, settings: Settings) -> list[str]:
    lines = [
        f"Saved {saved.jobs} jobs, {saved.chunks} finished chunks and {saved.keys} API keys.",
        f"The damaged database is kept: {saved.damaged_copy}",
    ]
    if saved.requeued:
        lines.append(f"{len(saved.requeued)} of the jobs are queued again: their results were incomplete.")
    if saved.lost_jobs:
        lines.append(f"warning: only fragments of {saved.lost_jobs} more jobs could be read.")
    if saved.orphaned_recordings:
        lines.append(_orphan_warning(saved.orphaned_recordings, settings))
    return lines


def _orphan_warning(count: int, settings: Settings) -> str:
    return (
        f"warning: {count} recordings in {settings.audio_dir} have no job; they stay there. "
        "`cesar jobs submit FILE` queues one again."
    )
