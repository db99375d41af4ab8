"""A file that is not one of our databases is refused in one clear line, and not changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cesar.errors import DatabaseError, DatabaseTooNew, NotADatabase
from tests.api.support import QueueCase


def make(path: Path, *statements: str) -> bytes:
    """Create another program's database; return its bytes."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return path.read_bytes()


class TestRefusals(QueueCase):
    async def asyncSetUp(self) -> None:
        """Each test opens a database that it created itself."""

    async def refusal(self, kind: type[DatabaseError]) -> str:
        with pytest.raises(kind) as caught:
            await self.open()
        assert "\n" not in caught.value.message
        assert str(self.file) in caught.value.message
        assert caught.value.hint
        return caught.value.message

    async def test_a_file_that_is_not_a_database_is_refused(self) -> None:
        content = b"Dear diary, today I was mistaken for a database." * 100
        self.file.write_bytes(content)
        await self.refusal(NotADatabase)
        assert self.file.read_bytes() == content

    async def test_a_damaged_database_is_refused(self) -> None:
        await (await self.open()).close()
        content = bytearray(self.file.read_bytes())
        content[100:8192] = b"\xff" * (8192 - 100)
        self.file.write_bytes(content)
        await self.refusal(NotADatabase)

    async def test_another_programs_database_is_refused(self) -> None:
        make(self.file, "CREATE TABLE songs (title TEXT)", "CREATE TABLE albums (title TEXT)")
        assert "albums, songs" in await self.refusal(NotADatabase)

    async def test_another_programs_database_is_not_changed(self) -> None:
        content = make(self.file, "CREATE TABLE songs (title TEXT)")
        await self.refusal(NotADatabase)
        assert self.file.read_bytes() == content

    async def test_a_newer_versions_database_is_refused(self) -> None:
        await (await self.open()).close()
        make(self.file, "UPDATE alembic_version SET version_num = '9999'")
        assert "9999" in await self.refusal(DatabaseTooNew)

    async def test_another_programs_alembic_database_is_refused(self) -> None:
        table = "CREATE TABLE alembic_version (version_num TEXT)"
        make(self.file, table, "INSERT INTO alembic_version VALUES ('0001')", "CREATE TABLE songs (title TEXT)")
        await self.refusal(NotADatabase)

    async def test_a_refused_database_can_be_closed_and_releases_its_lock(self) -> None:
        self.file.write_bytes(b"no database" * 100)
        await self.refusal(NotADatabase)
        self.file.unlink()
        repository = await self.open()
        assert await repository.list_all() == []

    async def test_an_empty_file_becomes_a_database(self) -> None:
        self.file.touch()
        repository = await self.open()
        assert await repository.list_all() == []
