"""The queue: jobs, their events and checkpoints, and the valid transitions as a trigger."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

LEGAL = (
    ("queued", "processing"),
    ("queued", "cancelled"),
    ("processing", "queued"),
    ("processing", "completed"),
    ("processing", "error"),
    ("processing", "cancelled"),
    ("error", "queued"),
    ("cancelled", "queued"),
)


def upgrade() -> None:
    op.execute(f"PRAGMA application_id = {0x43657361}")
    op.create_table(
        "jobs",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("audio_path", sa.String, nullable=False),
        sa.Column("model_size", sa.String, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("started_at", sa.DateTime),
        sa.Column("completed_at", sa.DateTime),
        sa.Column("run_after", sa.DateTime),
        sa.Column("idempotency_key", sa.String, unique=True),
        sa.Column("idempotency_hash", sa.String),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("owner", sa.String),
        sa.Column("beat", sa.Integer, nullable=False),
        sa.Column("heartbeat_at", sa.DateTime),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("lost", sa.Integer, nullable=False),
        sa.Column("cancel_requested_at", sa.DateTime),
        sa.Column("phase", sa.String),
        sa.Column("position", sa.Float, nullable=False),
        sa.Column("duration", sa.Float),
        sa.Column("fingerprint", sa.String),
        sa.Column("result_text", sa.Text),
        sa.Column("detected_language", sa.String),
        sa.Column("outcome", sa.JSON),
        sa.Column("error_code", sa.String),
        sa.Column("error_message", sa.Text),
        sa.Column("error_hint", sa.Text),
        sa.CheckConstraint(
            "status IN ('queued', 'processing', 'completed', 'error', 'cancelled')", name="known_status"
        ),
        sa.CheckConstraint("(owner IS NULL) = (status <> 'processing')", name="owned_while_processing"),
        sqlite_autoincrement=True,
    )
    waiting = sa.text("status = 'queued'")
    op.create_index("jobs_waiting", "jobs", ["status", sa.text("priority DESC"), "seq"], sqlite_where=waiting)
    op.create_index("jobs_by_status", "jobs", ["status", "seq"])
    op.create_table(
        "job_events",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("job_seq", sa.Integer, sa.ForeignKey("jobs.seq", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("before", sa.String),
        sa.Column("after", sa.String, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("owner", sa.String),
        sa.Column("reason", sa.String, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "job_chunks",
        sa.Column("job_seq", sa.Integer, sa.ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
        sa.Column("start", sa.Float, primary_key=True),
        sa.Column("end", sa.Float, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sqlite_with_rowid=False,
    )
    pairs = ", ".join(f"('{before}', '{after}')" for before, after in LEGAL)
    op.execute(
        "CREATE TRIGGER legal_moves BEFORE UPDATE OF status ON jobs "
        f"WHEN OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (VALUES {pairs}) "
        "BEGIN SELECT RAISE(ABORT, 'a job cannot go from that state to this'); END"
    )
    op.execute(
        "CREATE TRIGGER attempts_only_grow BEFORE UPDATE OF attempt ON jobs WHEN NEW.attempt < OLD.attempt "
        "BEGIN SELECT RAISE(ABORT, 'an attempt must not shrink'); END"
    )
