"""A job and all its stored chunks."""

from __future__ import annotations

from cesar.api.models import Job
from cesar.api.queries.cursor import Cursor
from cesar.api.repository import JobRepository
from cesar.errors import JobNotFound
from cesar.transcript import Chunk

_CHUNKS_AT_ONCE = 100


async def load_chunks(repository: JobRepository, job_id: str) -> tuple[Job, list[Chunk]]:
    """Return a job and its chunks, read in batches so that other reads can run in between. Raises `JobNotFound`."""
    cursor, chunks = Cursor(), list[Chunk]()
    while (tail := await repository.tail(job_id, cursor, limit=_CHUNKS_AT_ONCE)) is not None:
        if tail.job.generation != cursor.generation:
            chunks.clear()  # the job was restarted meanwhile
        chunks += tail.chunks
        if len(tail.chunks) < _CHUNKS_AT_ONCE:
            return tail.job, chunks
        cursor = Cursor(generation=tail.job.generation, chunk_start=chunks[-1].start)
    raise JobNotFound(f"there is no job {job_id}", hint="See GET /jobs.")
