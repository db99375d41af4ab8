"""Opens databases as a start of Cesar does: concurrently with others, or killed in the middle.

`python -m tests.faults.starter open DATABASE...` opens one after the other. `... wait GO DATABASE` opens one as soon
as the file GO exists, and prints what was logged. `... kill TEMPLATE FOLDER N...` copies the database TEMPLATE (if
there is one) to FOLDER/N/queue.db for each N, and opens it in a process that dies by SIGKILL ahead of its Nth
operation on a file; FOLDER/N/done tells after how many operations it was done, if N was never reached.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import alembic.command
import alembic.script  # noqa: F401

from cesar.api.repository import JobRepository
from tests.faults.power import Op, interpose


async def start(database: Path) -> None:
    repository = JobRepository(database)
    await repository.connect()
    await repository.close()


def start_at(go: Path, database: Path) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    print("waiting", flush=True)
    while not go.exists():
        time.sleep(0.001)
    asyncio.run(start(database))
    print("opened", flush=True)


def start_and_die(database: Path, at: int) -> None:
    """Open the database in a child process that dies before this operation, counted from 1."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    done = 0

    def count(_op: Op) -> int:
        nonlocal done
        done += 1
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    interpose(count)
    asyncio.run(start(database))
    (database.parent / "done").write_text(str(done))
    os._exit(0)


def main() -> None:
    match sys.argv[1:]:
        case ["open", *databases]:
            for database in databases:
                asyncio.run(start(Path(database)))
        case ["wait", go, database]:
            start_at(Path(go), Path(database))
        case ["kill", template, folder, *numbers]:
            for number in numbers:
                copy = Path(folder, number, "queue.db")
                copy.parent.mkdir()
                if Path(template).exists():
                    shutil.copyfile(template, copy)
                start_and_die(copy, int(number))


if __name__ == "__main__":
    main()
