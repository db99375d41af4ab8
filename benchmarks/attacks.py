"""One caller against the rest: the effect of attacks on the memory of `cesar serve` and on other requests.

Prints JSON. For each attack: the memory before, at its peak and after, in MiB, and the time of `GET /livez`
meanwhile, on a new connection each time, requested every 20 ms by a separate process. The attackers run on the same
machine and share its cores. `--only NAME` runs one attack.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

ATTACK_S = 8.0
_PAUSE_S = 0.02
_SETTINGS = {"CESAR_REQUESTS_PER_MINUTE": "100000000", "CESAR_CONFIG": ""}
HOST = b"Host: localhost\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n"
UPLOAD = b"POST /transcribe HTTP/1.1\r\n" + HOST + FORM
RECORDING = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
PART = b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\na\r\n'

Attack = Callable[[int], None]


def chunked(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def flood(beginning: bytes, unit: bytes) -> Attack:
    """Send the same bytes repeatedly, on one connection after another."""

    def attack(port: int) -> None:
        until = time.monotonic() + ATTACK_S
        while time.monotonic() < until:
            with closing(connect(port)) as caller, suppress(OSError):
                caller.sendall(beginning)
                while time.monotonic() < until:
                    caller.sendall(unit)

    return attack


def many(count: int, sent: bytes, *, drip: bytes = b"", window_bytes: int = 0) -> Attack:
    """Open connections, send bytes on each, and read nothing; drip: bytes sent again from time to time."""

    def attack(port: int) -> None:
        until = time.monotonic() + ATTACK_S
        with ExitStack() as open_ones:
            callers = []
            for _ in range(count):
                with suppress(OSError):
                    caller = open_ones.enter_context(closing(connect(port, window_bytes)))
                    caller.sendall(sent)
                    callers.append(caller)
            while time.monotonic() < until:
                for caller in callers if drip else ():
                    with suppress(OSError):
                        caller.send(drip)
                time.sleep(0.2)

    return attack


def again(sent: bytes, *, at_once: int = 1) -> Attack:
    """Send the same request repeatedly, each time on new connections, and read the responses."""

    def attack(port: int) -> None:
        until = time.monotonic() + ATTACK_S
        while time.monotonic() < until:
            with ExitStack() as open_ones:
                callers = [open_ones.enter_context(closing(connect(port))) for _ in range(at_once)]
                for caller in callers:
                    with suppress(OSError):
                        caller.sendall(sent)
                for caller in callers:
                    with suppress(OSError):
                        while caller.recv(1 << 20):
                            pass

    return attack


def uploads(count: int, unit: bytes) -> Attack:
    """Send that many recordings at once, each as fast as possible."""

    def attack(port: int) -> None:
        until = time.monotonic() + ATTACK_S
        content = memoryview(chunked(unit) * max(1, 200_000 // len(unit)))
        with ExitStack() as open_ones:
            callers = [open_ones.enter_context(closing(connect(port))) for _ in range(count)]
            for caller in callers:
                caller.sendall(UPLOAD + chunked(RECORDING))
                caller.setblocking(False)
            at = dict.fromkeys(callers, 0)
            while time.monotonic() < until:
                for caller in select.select([], callers, [], 0.1)[1]:
                    with suppress(OSError):
                        at[caller] = (at[caller] + caller.send(content[at[caller] :])) % len(content)

    return attack


def get(path: str, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"GET %b HTTP/1.1\r\n" % path.encode() + HOST + b"Connection: close\r\n" + lines + b"\r\n"


def post_json(path: str, content: bytes) -> bytes:
    head = b"POST %b HTTP/1.1\r\n" % path.encode() + HOST + b"Connection: close\r\nContent-Length: %d\r\n\r\n"
    return head % len(content) + content


ATTACKS: dict[str, Attack] = {
    "endless headers": flood(b"GET / HTTP/1.1\r\n" + HOST, b"X-A: " + b"a" * 60_000 + b"\r\n"),
    "one endless header": flood(b"GET / HTTP/1.1\r\n" + HOST + b"X-A: ", b"a" * 65_536),
    "many small headers": flood(b"GET / HTTP/1.1\r\n" + HOST, b"a:\r\n" * 16_384),
    "an endless URL": flood(b"GET /", b"%41" * 20_000),
    "endless trailers": flood(UPLOAD + chunked(b"--x\r\n") + b"0\r\n", b"X-A: " + b"a" * 60_000 + b"\r\n"),
    "an endless chunk extension": flood(UPLOAD + b"3;", b"a" * 65_536),
    "an upload in chunks of one byte": flood(UPLOAD, chunked(b"-") * 10_000),
    "a million fields": flood(UPLOAD, chunked(b"".join(PART % b"a%d" % n for n in range(500)))),
    "an endless preamble": flood(UPLOAD, chunked(b"a" * 65_536)),
    "invalid requests": again(b"nonsense\r\n\r\n", at_once=10),
    "upgrade requests": again(
        get("/livez", b"Connection: Upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"), at_once=10
    ),
    "pipelined requests, unread": many(100, (b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n") * 2000),
    "2,000 idle connections": many(2000, b""),
    "2,000 partial heads, sent slowly": many(2000, b"GET / HTTP/1.1\r\n", drip=b"X"),
    "500 responses, unread": many(500, get("/openapi.json"), window_bytes=2048),
    "500 event streams, unread": many(500, get("/events"), window_bytes=2048),
    "500 JSON bodies, sent slowly": many(
        500, b"POST /transcribe/url HTTP/1.1\r\n" + HOST + b"Content-Length: 9999\r\n\r\n", drip=b" "
    ),
    "500 uploads, sent slowly": many(500, UPLOAD, drip=chunked(b"-")),
    "200 uploads at full speed": uploads(200, b"a" * 60_000),
    "200 uploads in chunks of 8 bytes": uploads(200, b"abcdefgh"),
    "thousands of ranges": again(
        get("/jobs/none/audio", b"Range: bytes=" + b",".join(b"%d-" % n for n in range(5000))), at_once=10
    ),
    "the API document, repeatedly": again(get("/openapi.json"), at_once=10),
    "thousands of unknown fields": again(
        post_json("/transcribe/url", b"{%b}" % b",".join(b'"k%d":1' % n for n in range(20_000))), at_once=10
    ),
    "cookies and Unicode": again(get("/jobs?name=" + "%F0%9F%98%80" * 60, b"Cookie: " + b"\xff=" * 8000), at_once=10),
}


def connect(port: int, window_bytes: int = 0) -> socket.socket:
    caller = socket.socket()
    if window_bytes:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
    caller.settimeout(5)
    with suppress(OSError):
        caller.connect(("127.0.0.1", port))
    return caller


def probe(port: int) -> None:
    """Send a request every 20 ms until standard input is closed; print the time of each, in seconds."""
    stopped = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        stopped.set()

    threading.Thread(target=wait, daemon=True).start()
    took = []
    while not stopped.wait(_PAUSE_S):
        begun = time.perf_counter()
        with closing(socket.create_connection(("127.0.0.1", port), 60)) as caller:
            caller.sendall(get("/livez"))
            answer = b""
            while part := caller.recv(65_536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200"), answer
        took.append(time.perf_counter() - begun)
    sys.stdout.write(json.dumps(took))


@contextmanager
def serving(folder: Path) -> Iterator[tuple[int, int]]:
    """Run the service without a worker; yield its port and process id."""
    log = folder / "serve.log"
    options = ("--port", "0", "--no-worker", "--data-dir", str(folder / "data"))
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "cesar", "serve", *options], stderr=stderr, env=os.environ | _SETTINGS
        )
        try:
            while "Listening on " not in log.read_text():
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            yield int(log.read_text().partition("Listening on ")[2].split()[0].rpartition(":")[2]), process.pid
        finally:
            process.terminate()
            process.wait(60)


def memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.partition("VmRSS:")[2].split()[0]) / 1024, 1)


def measured(attack: Attack, port: int, pid: int) -> dict[str, float]:
    """Attack, and measure memory and other requests meanwhile."""
    before, peak, is_over = memory_mib(pid), [0.0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.05):
            peak[0] = max(peak[0], memory_mib(pid))

    watcher = threading.Thread(target=watch)
    command = [sys.executable, "-m", "benchmarks.attacks", "--probe", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asking:
        watcher.start()
        attack(port)
        output, _ = asking.communicate("")
    is_over.set()
    watcher.join()
    time.sleep(2.5)  # rejected requests are read for two more seconds
    took = sorted(json.loads(output))
    return {
        "before_mib": before,
        "peak_mib": peak[0],
        "after_mib": memory_mib(pid),
        "n": len(took),
        "p50_ms": round(1000 * statistics.median(took), 1),
        "p99_ms": round(1000 * took[int(0.99 * len(took))], 1),
        "worst_ms": round(1000 * took[-1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=ATTACKS)
    parser.add_argument("--probe", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe is not None:
        probe(arguments.probe)
        return
    found = {}
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as (port, pid):
        for name in [arguments.only] if arguments.only else ["nothing", *ATTACKS]:
            sys.stderr.write(f"{name}\n")
            attack = ATTACKS.get(name, lambda _port: time.sleep(ATTACK_S))
            found[name] = measured(attack, port, pid)
            sys.stderr.write(f"  {found[name]}\n")
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
