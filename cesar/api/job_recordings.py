"""`JobRecordings`: the recordings of the queue's jobs, in a folder that belongs to one database.

`AudioStore` knows files only, and the queue rows only; here is what holds between them (decisions 8 and 15).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from cesar.api.queries import lookups
from cesar.api.queue import removals, transitions
from cesar.api.queue.recording_references import has_audio
from cesar.api.queue.transitions import Row
from cesar.api.recovery import ownership
from cesar.api.storage.location import DatabaseLocation
from cesar.api.storage.recordings import ASIDE_DAYS, AudioStore, SweepResult

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobRecordings:
    """The recordings of one database's jobs. Every method is called within a transaction."""

    location: DatabaseLocation
    store: AudioStore

    def claim_folder(self, connection: sa.Connection) -> None:
        """Claim the folder for this database. Raises `ForeignRecordings` if it belongs to another."""
        ownership.claim(connection, self.location, self.store)

    def adopt(self, connection: sa.Connection) -> int:
        """Make the folder this database's, whatever it belonged to; return how many recordings have no job."""
        ownership.adopt(connection, self.location, self.store)
        return len(ownership.retained_digests(self.store))

    def with_current_path(self, connection: sa.Connection, row: Row) -> Row:
        """Return a job's row with the recording's current path: the data folder may have been moved.

        A recording that was fetched, and deleted since, is to be fetched again.
        """
        if row["audio_digest"] is None:
            return row
        path = self.store.path_of(row["audio_digest"])
        if path.is_file():
            is_moved = str(path) != row["audio_path"]
            return transitions.update_row(connection, row, audio_path=str(path)) if is_moved else row
        if row["source_url"] is None:
            return row
        return transitions.update_row(connection, row, audio_path=row["source_url"], audio_digest=None)

    def remove(self, connection: sa.Connection, gone: Iterable[Row]) -> None:
        """Remove the recordings of deleted jobs, unless others have them."""
        for row in gone:
            for store in self._folders_of(connection, row):
                store.remove_partial(row["id"])
                if row["audio_digest"] is not None:
                    if not has_audio(connection, row["audio_digest"]):
                        store.remove(row["audio_digest"])
                    removals.drop(connection, row["audio_digest"])

    def remove_before_deletion(self, connection: sa.Connection, row: Row) -> None:
        """Remove the recording of a job that is to be deleted, if no other has it; nothing is written."""
        digest = row["audio_digest"]
        if digest is not None and has_audio(connection, digest, at_least=2):
            return
        for store in self._folders_of(connection, row):
            store.remove_partial(row["id"])
            if digest is not None:
                store.remove(digest)

    def sweep(self, connection: sa.Connection, is_dead: Callable[[str], bool]) -> SweepResult:
        """Set aside recordings without a job, restore those that a job needs, and complete interrupted deletions.

        Recordings newer than the last write to the database stay: it may be an older copy. So does everything in a
        new database in memory.
        """
        if self.location.is_memory:
            return SweepResult()
        self.claim_folder(connection)
        spared = ownership.retained_digests(self.store)
        finished = removals.finish(connection, self.store, spared)
        result = self.store.sweep(
            is_needed=lambda digest: has_audio(connection, digest),
            is_dead=is_dead,
            has_job=lambda job_id: lookups.is_unfinished(connection, job_id),
            known_until=lookups.last_written(connection),
            retained=spared,
        )
        ownership.retain(self.store, result.retained)
        return replace(result, removed=result.removed + finished)

    def report(self, result: SweepResult) -> None:
        """Log what an administrator should know about a sweep."""
        folder = self.store.folder
        if result.retained:
            text = "%d recordings in %s have no job in this database, which may be an older copy; they are kept"
            _log.warning(text, len(result.retained), folder)
        if result.set_aside:
            text = "%d files in %s that no job needs were moved to `aside`, where they are kept for %d days"
            _log.warning(text, result.set_aside, folder, ASIDE_DAYS)
        if result.restored:
            text = "%d recordings in %s were restored from `aside`, since they have jobs again"
            _log.warning(text, result.restored, folder)

    def _folders_of(self, connection: sa.Connection, row: Row) -> list[AudioStore]:
        """Return the folders with a job's recording that belong to this database; a copy of it has no right to them."""
        written = self.store
        if row["audio_digest"] is not None and Path(row["audio_path"]).name == row["audio_digest"]:
            written = AudioStore(Path(row["audio_path"]).parents[1])  # this process may use another folder
        is_ours = (
            self.location.is_memory
            or ownership.read_marker(written) is None
            or ownership.is_owner(connection, self.location, written)
        )
        folders = [written] if is_ours else []
        if written.folder != self.store.folder and ownership.is_owner(connection, self.location, self.store):
            folders.append(self.store)  # the folder was moved since
        return folders
