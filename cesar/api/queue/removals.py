"""Recordings whose jobs were deleted, recorded with the deletion until their files are gone too.

If the process is killed between the commit and the removal of the files, the record remains: the next start can then
distinguish the remains of a deletion from the recording of a job that this database has never seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import datetime

import sqlalchemy as sa

from cesar.api.queue.recording_references import has_audio
from cesar.api.queue.transitions import Row
from cesar.api.storage.recordings import AudioStore, is_newer
from cesar.api.storage.schema import removals


def record(connection: sa.Connection, gone: Iterable[Row], now: datetime) -> None:
    """Record the recordings of jobs that have just been deleted, except those that other jobs have."""
    for digest in {row["audio_digest"] for row in gone if row["audio_digest"] is not None}:
        if not has_audio(connection, digest):
            drop(connection, digest)
            connection.execute(sa.insert(removals), {"digest": digest, "at": now})


def drop(connection: sa.Connection, digest: str) -> None:
    """Drop the record of a recording that is gone, or has a job again."""
    connection.execute(sa.delete(removals).where(removals.c.digest == digest))


def finish(connection: sa.Connection, store: AudioStore, retained: Collection[str]) -> int:
    """Complete interrupted deletions in the folder; return the number of recordings removed.

    A recording that has a job again stays, as does one that arrived after the deletion: the database may be an older
    copy.
    """
    count = 0
    for digest, at in connection.execute(sa.select(removals.c.digest, removals.c.at)).all():
        with suppress(OSError):
            path = store.path_of(digest)
            is_left = path.exists() and not is_newer(path, at)
            if is_left and digest not in retained and not has_audio(connection, digest):
                store.remove(digest)
                count += 1
            drop(connection, digest)
    return count
