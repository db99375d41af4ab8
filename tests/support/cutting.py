"""A proxy that cuts connections: it stands between a client and a server, and passes on only so many bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Cut:
    """When to cut a connection: after so many bytes from the client, or from the server."""

    after_sent: int | None = None
    after_received: int | None = None


@dataclass
class Cutter:
    """Where the proxy listens, and how many connections came. The first are cut as told; all others hold."""

    url: str
    cuts: Sequence[Cut]
    connections: int = 0
    threads: list[threading.Thread] = field(default_factory=list)


@contextmanager
def cutting(port: int, *cuts: Cut) -> Iterator[Cutter]:
    """Pass connections on to a port of this machine, cutting the first of them."""
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
    """Carry both ways until one side ends or the cut comes, then hang up on both."""
    with client, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
        answering = threading.Thread(target=_carry, args=(server, client, cut.after_received))
        answering.start()
        _carry(client, server, cut.after_sent)
        answering.join()


def _carry(source: socket.socket, target: socket.socket, most: int | None) -> None:
    """Carry up to so many bytes one way; then neither way is open any more."""
    left = most
    with suppress(OSError):
        while left != 0 and (content := source.recv(_BLOCK_BYTES if left is None else min(left, _BLOCK_BYTES))):
            target.sendall(content)
            left = None if left is None else left - len(content)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
