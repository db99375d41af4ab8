"""What the database itself refuses, whoever writes: SQL that bypasses our code."""

from __future__ import annotations

import sqlite3
from itertools import product
from typing import Any

import pytest
import sqlalchemy as sa

from cesar.api.models import TRANSITIONS, JobStatus
from tests.api.support import QueueCase, chunk


class TestRules(QueueCase):
    in_memory = False

    async def test_the_database_refuses_exactly_the_invalid_transitions(self) -> None:
        refused = set()
        for before, after in product(JobStatus, JobStatus):
            job = await self.queue_as(before)
            owner = "somebody" if after is JobStatus.PROCESSING else None
            try:
                self.sql("UPDATE jobs SET status = ?, owner = ? WHERE id = ?", after, owner, job.id)
            except sqlite3.IntegrityError:
                refused.add((before, after))
                assert (await self.read(job)).status is before
            else:
                assert (await self.read(job)).status is after
        allowed = {(before, after) for before, afters in TRANSITIONS.items() for after in afters}
        assert refused == set(product(JobStatus, JobStatus)) - allowed - {(status, status) for status in JobStatus}

    async def test_the_database_refuses_an_unknown_status(self) -> None:
        job = await self.queue()
        for status in ("", "QUEUED", "paused"):
            with pytest.raises(sqlite3.IntegrityError):
                self.sql("UPDATE jobs SET status = ? WHERE id = ?", status, job.id)

    async def test_the_database_refuses_an_owner_unless_processing_and_processing_without_one(self) -> None:
        for status in JobStatus:
            job = await self.queue_as(status)
            owner = None if status is JobStatus.PROCESSING else "somebody"
            with pytest.raises(sqlite3.IntegrityError, match="owned_while_processing"):
                self.sql("UPDATE jobs SET owner = ? WHERE id = ?", owner, job.id)

    async def test_the_database_refuses_a_shrinking_attempt(self) -> None:
        await self.queue()
        job = await self.claim()
        with pytest.raises(sqlite3.IntegrityError, match="attempt"):
            self.sql("UPDATE jobs SET attempt = 0 WHERE id = ?", job.id)
        self.sql("UPDATE jobs SET attempt = 5 WHERE id = ?", job.id)

    async def test_the_database_refuses_a_duplicate_id_or_key(self) -> None:
        one, two = await self.queue(idempotency_key="k"), await self.queue()
        for column, value in (("id", one.id), ("idempotency_key", "k")):
            with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
                self.sql(f"UPDATE jobs SET {column} = ? WHERE id = ?", value, two.id)

    async def test_no_statement_of_a_claim_scans_every_job(self) -> None:
        await self.queue_as(JobStatus.COMPLETED)
        await self.queue_as(JobStatus.PROCESSING)
        await self.queue()
        statements: list[tuple[str, Any]] = []
        engine = self.repository.database._writer
        sa.event.listen(engine, "before_cursor_execute", lambda *seen: statements.append((seen[2], seen[3])))
        await self.claim()
        steps = []
        for statement, values in statements:
            if not statement.startswith("BEGIN"):
                steps += [step[3] for step in self.sql(f"EXPLAIN QUERY PLAN {statement}", *values)]
        assert len(steps) >= 3
        assert [step for step in steps if step.startswith("SCAN") and " INDEX " not in step] == []
        assert [step for step in steps if "TEMP B-TREE" in step] == [], "what is in order needs no sorting"

    async def test_deleted_data_is_overwritten_in_the_file(self) -> None:
        secret = "what nobody else may ever read"
        await self.queue()
        job = await self.claim()
        await self.repository.checkpoint(job, chunk(0, 5, secret))
        job.status, job.result_text = JobStatus.COMPLETED, secret
        await self.repository.update(job)
        await self.repository.delete(job.id)
        await self.repository.close()
        for path in self.folder.glob("queue.db*"):
            assert path.is_dir() or secret.encode() not in path.read_bytes()
