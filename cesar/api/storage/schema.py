"""The queue's tables for SQLAlchemy. `migrations` creates them; a test checks that both agree."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A point in time: UTC in the database, timezone-aware in Python."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(sa.DateTime(timezone=dialect.name != "sqlite"))

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


BigId = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite autoincrements only columns of type INTEGER, which have 64 bits there."""

metadata = sa.MetaData()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("seq", BigId, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("audio_path", sa.String, nullable=False),
    sa.Column("model_size", sa.String, nullable=False),
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("completed_at", UtcDateTime),
    sa.Column("run_after", UtcDateTime),
    sa.Column("idempotency_key", sa.String, unique=True),
    sa.Column("idempotency_hash", sa.String),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("owner", sa.String),
    sa.Column("beat", sa.Integer, nullable=False),
    sa.Column("heartbeat_at", UtcDateTime),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("lost", sa.Integer, nullable=False),
    sa.Column("cancel_requested_at", UtcDateTime),
    sa.Column("phase", sa.String),
    sa.Column("position", sa.Float, nullable=False),
    sa.Column("duration", sa.Float),
    sa.Column("fingerprint", sa.String),
    sa.Column("result_text", sa.Text),
    sa.Column("detected_language", sa.String),
    sa.Column("outcome", sa.JSON(none_as_null=True)),
    sa.Column("error_code", sa.String),
    sa.Column("error_message", sa.Text),
    sa.Column("error_hint", sa.Text),
    sa.Column("submitter", sa.String, nullable=False, server_default=""),
    sa.Column("source_url", sa.String),
    sa.Column("audio_digest", sa.String),
    sa.Column("audio_bytes", sa.BigInteger),
    sa.Column("fetched_bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("no_cache", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("cached_from", sa.String),
    sa.Column("generation", sa.Integer, nullable=False, server_default="0"),
    sa.Column("begun", sa.Integer, nullable=False, server_default="0"),
    sa.Column("losses", sa.Integer, nullable=False, server_default="0"),
    sqlite_autoincrement=True,
)
sa.Index(
    "jobs_waiting",
    jobs.c.status,  # the same in every row; without it SQLite prefers jobs_by_status, and sorts the waiting jobs
    jobs.c.priority.desc(),
    jobs.c.seq,
    sqlite_where=sa.text("status = 'queued'"),
    postgresql_where=sa.text("status = 'queued'"),
)
sa.Index("jobs_by_status", jobs.c.status, jobs.c.seq)
sa.Index("jobs_by_end", jobs.c.completed_at, sqlite_where=sa.text("completed_at IS NOT NULL"))
sa.Index("jobs_by_submitter", jobs.c.submitter, jobs.c.seq)
sa.Index("jobs_by_audio", jobs.c.audio_digest, sqlite_where=sa.text("audio_digest IS NOT NULL"))
sa.Index("jobs_by_result", jobs.c.fingerprint, sqlite_where=sa.text("status = 'completed'"))

queue_blocks = sa.Table(
    "queue_blocks",
    metadata,
    sa.Column("priority", sa.Integer, primary_key=True),
    sa.Column("block", sa.Integer, primary_key=True),
    sa.Column("model_size", sa.String, primary_key=True),
    sa.Column("jobs", sa.Integer, nullable=False),
    sa.Column("unknown_jobs", sa.Integer, nullable=False),
    sa.Column("known_s", sa.Float, nullable=False),
    sqlite_with_rowid=False,
)
"""Sums over blocks of waiting jobs, kept by triggers: see `queue/position.py`."""

events = sa.Table(
    "job_events",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("job_seq", BigId, sa.ForeignKey("jobs.seq", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("before", sa.String),
    sa.Column("after", sa.String, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("owner", sa.String),
    sa.Column("reason", sa.String, nullable=False),
    sqlite_autoincrement=True,
)

chunks = sa.Table(
    "job_chunks",
    metadata,
    sa.Column("job_seq", BigId, sa.ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
    sa.Column("start", sa.Float, primary_key=True),
    sa.Column("end", sa.Float, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("payload", sa.JSON, nullable=False),
    sqlite_with_rowid=False,
)
"""Checkpoints: a job's finished chunks, each committed when it was finished."""

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("revoked_at", UtcDateTime),
)
"""Who may use the service over the network; only digests of their secrets are stored."""

removals = sa.Table(
    "removals",
    metadata,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
)
"""Recordings whose jobs were deleted, until their files are deleted too."""
