"""Which stored recordings jobs refer to."""

from __future__ import annotations

import sqlalchemy as sa

from cesar.api.storage.schema import jobs


def has_audio(connection: sa.Connection, digest: str, *, at_least: int = 1) -> bool:
    """Whether some job, or at least so many, has the recording of that digest."""
    found = connection.execute(sa.select(jobs.c.seq).where(jobs.c.audio_digest == digest).limit(at_least)).all()
    return len(found) == at_least


def has_recordings(connection: sa.Connection) -> bool:
    """Whether any job has a recording that Cesar stores or will fetch."""
    theirs = sa.or_(jobs.c.audio_digest.is_not(None), jobs.c.source_url.is_not(None))
    return connection.execute(sa.select(jobs.c.seq).where(theirs).limit(1)).first() is not None
