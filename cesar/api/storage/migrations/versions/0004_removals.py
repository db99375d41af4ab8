"""Recordings whose jobs were deleted, until their files are deleted too."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "removals",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("at", sa.DateTime, nullable=False),
    )
