"""Sums over blocks of waiting jobs, kept by triggers: a position is found without reading the whole queue."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

# The size of a block and the formula are also in cesar/api/queries/position.py; a test compares both.
_KEY = "{row}.priority, {row}.seq / 256, {row}.model_size"
_SPAN_S = """(SELECT CASE WHEN "end" IS NULL AND duration IS NULL THEN NULL
 ELSE max(0.0, min(coalesce("end", duration), coalesce(duration, "end")) - max(start, position)) END
 FROM (SELECT json_extract({row}.options, '$.end') AS "end",
 coalesce(json_extract({row}.options, '$.start'), 0.0) AS start,
 {row}.duration AS duration, {row}.position AS position))"""
_ADD = f"""INSERT INTO queue_blocks (priority, block, model_size, jobs, unknown_jobs, known_s)
 SELECT {_KEY}, 1, span_s IS NULL, coalesce(span_s, 0.0) FROM (SELECT {_SPAN_S} AS span_s) WHERE true
 ON CONFLICT (priority, block, model_size) DO UPDATE SET
 jobs = jobs + 1, unknown_jobs = unknown_jobs + excluded.unknown_jobs, known_s = known_s + excluded.known_s;"""
_SUBTRACT = f"""UPDATE queue_blocks SET jobs = jobs - 1, unknown_jobs = unknown_jobs - ({_SPAN_S} IS NULL),
 known_s = known_s - coalesce({_SPAN_S}, 0.0) WHERE (priority, block, model_size) = ({_KEY});
 DELETE FROM queue_blocks WHERE (priority, block, model_size) = ({_KEY}) AND jobs <= 0;"""
_COLUMNS = "status, priority, model_size, options, duration, position"


def upgrade() -> None:
    op.create_table(
        "queue_blocks",
        sa.Column("priority", sa.Integer, primary_key=True),
        sa.Column("block", sa.Integer, primary_key=True),
        sa.Column("model_size", sa.String, primary_key=True),
        sa.Column("jobs", sa.Integer, nullable=False),
        sa.Column("unknown_jobs", sa.Integer, nullable=False),
        sa.Column("known_s", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    for name, event, row, change in (
        ("queue_block_insert", "INSERT", "NEW", _ADD),
        ("queue_block_delete", "DELETE", "OLD", _SUBTRACT),
        ("queue_block_leave", f"UPDATE OF {_COLUMNS}", "OLD", _SUBTRACT),
        ("queue_block_enter", f"UPDATE OF {_COLUMNS}", "NEW", _ADD),
    ):
        when = f"AFTER {event} ON jobs WHEN {row}.status = 'queued'"
        op.execute(f"CREATE TRIGGER {name} {when} BEGIN {change.format(row=row)} END")
    key, span_s = _KEY.format(row="jobs"), _SPAN_S.format(row="jobs")
    op.execute(
        f"INSERT INTO queue_blocks SELECT {key}, count(*), count(*) - count(span_s), total(span_s) "
        f"FROM (SELECT *, {span_s} AS span_s FROM jobs WHERE status = 'queued') AS jobs GROUP BY 1, 2, 3"
    )
