"""New databases as copies of a migrated one, which takes a fiftieth of the time."""

from __future__ import annotations

import sqlite3
import threading
from functools import cache
from typing import Any

import sqlalchemy as sa

from cesar.api.storage.location import DatabaseLocation
from cesar.api.storage.migrate import upgrade
from cesar.api.storage.sqlite_engine import writing_engine

_turn = threading.Lock()


def upgrade_by_copying(engine: sa.Engine, location: DatabaseLocation, schema: str | None) -> None:
    """Replace `upgrade` by a copy, with the same result."""
    if schema is not None:
        upgrade(engine, location, schema)
        return
    with _turn, engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        _template().backup(driver)


@cache
def _template() -> sqlite3.Connection:
    location = DatabaseLocation(None)
    engine = writing_engine(location, 1.0)
    upgrade(engine, location, None)
    with engine.connect() as connection:
        driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    return driver
