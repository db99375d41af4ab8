"""Lost workers: whether recognition had begun, and the number of losses in a row."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("begun", sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("losses", sa.Integer, nullable=False, server_default="0"))
