"""A real service for tests of `--server`: uvicorn in a thread, over loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI

from cesar.api.http.app import create_app
from cesar.settings.config import Settings
from tests.faults.support import wait_until


@dataclass
class RunningService:
    """A running service."""

    url: str
    app: FastAPI


@contextmanager
def serving(settings: Settings, *, with_worker: bool = False, port: int = 0) -> Iterator[RunningService]:
    """Run a service within the block."""
    app = create_app(settings, with_worker=with_worker)
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", port)) as listening:
        failures: list[BaseException] = []

        def run() -> None:
            try:
                server.run(sockets=[listening])
            except BaseException as error:  # noqa: BLE001 - it is raised where the test is
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            wait_until(lambda: server.started or failures)
            assert not failures, failures
            yield RunningService(f"http://127.0.0.1:{listening.getsockname()[1]}", app)
        finally:
            server.should_exit = True
            thread.join()


def settings_of(folder: Any, **more: Any) -> Settings:
    """Return the settings of a service whose queue is `cesar.db` in this folder."""
    return Settings(data_dir=folder, **more)
