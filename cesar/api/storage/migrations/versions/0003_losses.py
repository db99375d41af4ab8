"""What a lost worker says about its job: whether the recording had been begun, and how many losses came in a row."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("begun", sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("losses", sa.Integer, nullable=False, server_default="0"))
