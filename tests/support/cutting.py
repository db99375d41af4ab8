"""A proxy between client and server that cuts connections after a number of bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Cut:
    """When to cut a connection: after that many bytes from the client, or from the server."""

    after_sent: int | None = None
    after_received: int | None = None


@dataclass
class Cutter:
    """The address of the proxy and the number of its connections. The first ones are cut; the others are not."""

    url: str
    cuts: Sequence[Cut]
    connections: int = 0
    threads: list[threading.Thread] = field(default_factory=list)


@contextmanager
def cutting(port: int, *cuts: Cut) -> Iterator[Cutter]:
    """Forward connections to a port of this machine, cutting the first ones."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        cutter = Cutter(f"http://127.0.0.1:{listening.getsockname()[1]}", cuts)
        accepting = threading.Thread(target=_accept_all, args=(listening, cutter, port))
        accepting.start()
        try:
            yield cutter
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            accepting.join()
            for thread in cutter.threads:
                thread.join()


def _accept_all(listening: socket.socket, cutter: Cutter, port: int) -> None:
    with suppress(OSError):
        while True:
            client, _ = listening.accept()
            cut = cutter.cuts[cutter.connections] if cutter.connections < len(cutter.cuts) else Cut()
            cutter.connections += 1
            thread = threading.Thread(target=_pass_on, args=(client, port, cut))
            cutter.threads.append(thread)
            thread.start()


def _pass_on(client: socket.socket, port: int, cut: Cut) -> None:
    """Forward in both directions until one side ends or the cut is reached, then close both."""
    with client, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
        answering = threading.Thread(target=_carry, args=(server, client, cut.after_received))
        answering.start()
        _carry(client, server, cut.after_sent)
        answering.join()


def _carry(source: socket.socket, target: socket.socket, most: int | None) -> None:
    """Forward up to that many bytes in one direction, then close both."""
    left = most
    with suppress(OSError):
        while left != 0 and (content := source.recv(_BLOCK_BYTES if left is None else min(left, _BLOCK_BYTES))):
            target.sendall(content)
            left = None if left is None else left - len(content)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
