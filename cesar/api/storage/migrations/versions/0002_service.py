"""The service: where recordings come from, reused results, API keys."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for column in (
        sa.Column("submitter", sa.String, nullable=False, server_default=""),
        sa.Column("source_url", sa.String),
        sa.Column("audio_digest", sa.String),
        sa.Column("audio_bytes", sa.BigInteger),
        sa.Column("fetched_bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("no_cache", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("cached_from", sa.String),
        sa.Column("generation", sa.Integer, nullable=False, server_default="0"),
    ):
        op.add_column("jobs", column)
    op.create_index("jobs_by_end", "jobs", ["completed_at"], sqlite_where=sa.text("completed_at IS NOT NULL"))
    op.create_index("jobs_by_submitter", "jobs", ["submitter", "seq"])
    op.create_index("jobs_by_audio", "jobs", ["audio_digest"], sqlite_where=sa.text("audio_digest IS NOT NULL"))
    op.create_index("jobs_by_result", "jobs", ["fingerprint"], sqlite_where=sa.text("status = 'completed'"))
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False, unique=True),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("revoked_at", sa.DateTime),
    )
