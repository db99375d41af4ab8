"""The service under load, and its overhead for a transcription: a real `cesar serve` in a separate process.

Prints JSON. --only responsive: the time of a trivial GET while a long recording is transcribed, compared with an idle
service. load: 200 event streams, 500 queued jobs, 20 simultaneous uploads of 100 MB: errors, and memory. overhead:
from POST to text for 5 s and 60 s, compared with calling `AudioTranscriber` directly, alternating. rival: the same
clips through wyoming-faster-whisper. whisper_1: the endpoint for OpenAI's clients compared with `/transcribe`, and 50
simultaneous calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.clips import TEST_AUDIO
from benchmarks.overhead import write_minute
from benchmarks.wyoming_server import ask_wyoming, wyoming
from cesar import AudioTranscriber
from cesar.settings.config import load

MODEL = "base"
WATCHERS, QUEUED, UPLOADS, UPLOAD_MB = 200, 500, 20, 100
_SETTINGS = {
    "CESAR_REQUESTS_PER_MINUTE": "1000000",
    "CESAR_IDLE_TIMEOUT_S": "3600",
    "CESAR_CONFIG": "",
}


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """Run the service; yield its URL and process id."""
    log = folder / "serve.log"
    command = [sys.executable, "-m", "cesar", "serve", "--port", "0", "--data-dir", str(folder / "data"), *options]
    with log.open("wb") as stderr, subprocess.Popen(command, stderr=stderr, env=os.environ | _SETTINGS) as process:
        while "Listening on " not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        address = log.read_text().partition("Listening on ")[2].split()[0]
        try:
            yield address, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def in_ms(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "n": len(ordered),
        "p50_ms": round(1000 * statistics.median(ordered), 2),
        "p99_ms": round(1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 2),
        "worst_ms": round(1000 * ordered[-1], 2),
    }


def peak_mib(pid: int) -> float:
    """Return the peak memory of a process (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024, 1)


async def submit(client: httpx.AsyncClient, recording: Path, **fields: str) -> str:
    with recording.open("rb") as file:
        answer = await client.post("/transcribe", files={"file": (recording.name, file)}, data=fields)
    answer.raise_for_status()
    return str(answer.json()["id"])


async def is_over(client: httpx.AsyncClient, job: str) -> str:
    """Follow a job's events to its end; return its status."""
    async with client.stream("GET", f"/jobs/{job}/events") as events:
        name = ""
        async for line in events.aiter_lines():
            name = line.removeprefix("event: ") if line.startswith("event: ") else name
            if name == "end" and line.startswith("data: "):
                break
    return str((await client.get(f"/jobs/{job}")).json()["status"])


async def ask_every(address: str, path: str, until: Callable[[], bool]) -> list[float]:
    """Send a request every 20 ms on one connection; return the time of each response.

    Without a client library, which would take longer than the service.
    """
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    took = []
    while not until():
        begun = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
        took.append(time.perf_counter() - begun)
        await asyncio.sleep(0.02)
    writer.close()
    return took


@asynccontextmanager
async def calling(address: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=httpx.Timeout(600), limits=limits) as client:
        yield client


async def responsive(folder: Path) -> dict[str, Any]:
    """Measure a trivial GET, alternately idle and during the transcription of a long recording."""
    found: dict[str, Any] = {}
    with serving(folder, "--model", MODEL, "--offline") as (address, _):
        async with calling(address) as client:
            await is_over(client, await submit(client, TEST_AUDIO / "short-video.mp4"))
            for path in ("/livez", "/jobs?limit=1"):
                rest = asyncio.create_task(asyncio.sleep(10))
                idle = await ask_every(address, path, rest.done)
                job = await submit(client, TEST_AUDIO / "printing-lj.m4a", no_cache="true")
                done = asyncio.create_task(is_over(client, job))
                busy = await ask_every(address, path, done.done)
                assert await done == "completed"
                ratio = in_ms(busy)["p99_ms"] / in_ms(idle)["p99_ms"]
                found[path] = {"idle": in_ms(idle), "busy": in_ms(busy), "p99_ratio": round(ratio, 2)}
    return found


async def load_(folder: Path) -> dict[str, Any]:
    """Measure many event streams, waiting jobs and large uploads at once."""
    large = folder / "large.wav"
    with wave.open(str(large), "wb") as file:
        file.setparams((2, 2, 48000, 0, "NONE", ""))
        for _ in range(UPLOAD_MB):
            file.writeframes(os.urandom(1 << 20))
    script = folder / "words.json"
    script.write_text(json.dumps({"language": "en", "segments": [{"start": 0.5, "end": 1.0, "text": "Words."}]}))
    with serving(folder, "--model", f"scripted:{script}") as (address, pid):
        async with calling(address) as client:
            await is_over(client, await submit(client, TEST_AUDIO / "short-video.mp4", no_cache="true"))
            before = peak_mib(pid)
            jobs = [
                await submit(client, TEST_AUDIO / "short-video.mp4", no_cache="true", start=f"0.{n:03}")
                for n in range(QUEUED)
            ]
            watching = [asyncio.create_task(is_over(client, job)) for job in jobs[-WATCHERS:]]
            await asyncio.sleep(1)
            with_watchers = peak_mib(pid)
            begun = time.perf_counter()
            uploads = [
                asyncio.create_task(submit(client, large, no_cache="true", start=f"0.{n:03}")) for n in range(UPLOADS)
            ]
            asking = ask_every(address, "/livez", lambda: all(task.done() for task in uploads))
            meanwhile = await asking
            upload_s = time.perf_counter() - begun
            ids = await asyncio.gather(*uploads)
            ends = await asyncio.gather(*watching)
            ends += await asyncio.gather(*(is_over(client, job) for job in ids))
            at_the_end = peak_mib(pid)
    return {
        "watchers": WATCHERS,
        "queued": QUEUED,
        "uploads": f"{UPLOADS} of {UPLOAD_MB} MB in {upload_s:.1f} s",
        "not completed": sum(end != "completed" for end in ends),
        "livez meanwhile": in_ms(meanwhile),
        "peak_mib": {"at first": before, "with jobs and watchers": with_watchers, "at the end": at_the_end},
    }


def write_five_seconds(path: Path) -> Path:
    with wave.open(str(write_minute(path.with_name("whole.wav")))) as minute, wave.open(str(path), "wb") as file:
        file.setparams(minute.getparams())
        file.writeframes(minute.readframes(5 * minute.getframerate()))
    return path


async def overhead(folder: Path, rounds: int) -> dict[str, Any]:
    """Measure from POST to text, alternating with the library called directly; both with a warm model."""
    clips = {"5 s": write_five_seconds(folder / "five.wav"), "60 s": write_minute(folder / "minute.wav")}
    direct = AudioTranscriber(MODEL, settings=load({"offline": True, "idle_timeout_s": 3600}))
    found: dict[str, Any] = {}
    with serving(folder, "--model", MODEL, "--offline") as (address, _):
        async with calling(address) as client:
            for name, clip in clips.items():
                pairs = []
                for number in range(rounds + 1):
                    for which in ("direct", "service") if number % 2 else ("service", "direct"):
                        begun = time.perf_counter()
                        if which == "direct":
                            await asyncio.to_thread(direct.transcribe, clip)
                            direct_s = time.perf_counter() - begun
                        else:
                            job = await submit(client, clip, no_cache="true")
                            assert await is_over(client, job) == "completed"
                            assert (await client.get(f"/jobs/{job}/transcript")).text
                            service_s = time.perf_counter() - begun
                    pairs.append((service_s, direct_s))
                service_s, direct_s = (statistics.median(side) for side in zip(*pairs[1:], strict=True))
                found[name] = {
                    "service_s": round(service_s, 4),
                    "direct_s": round(direct_s, 4),
                    "added_ms": round(1000 * statistics.median(a - b for a, b in pairs[1:]), 1),
                    "allowed_ms": round(50 + 30 * direct_s, 1),
                }
    return found


CALLERS = 50


async def ask_whisper_1(client: httpx.AsyncClient, recording: Path, prompt: str) -> str:
    """Transcribe like programs written for OpenAI; return the job's id."""
    with recording.open("rb") as file:
        answer = await client.post(
            "/v1/audio/transcriptions",
            files={"file": (recording.name, file)},
            data={"model": "whisper-1", "prompt": prompt},
        )
    answer.raise_for_status()
    assert answer.json()["text"]
    return str(answer.headers["X-Cesar-Job"])


async def whisper_1(folder: Path, rounds: int) -> dict[str, Any]:
    """Compare the synchronous endpoint with the asynchronous one. Unique prompts prevent deduplication."""
    clips = {"5 s": write_five_seconds(folder / "five.wav"), "60 s": write_minute(folder / "minute.wav")}
    found: dict[str, Any] = {}
    with serving(folder, "--model", MODEL, "--offline") as (address, pid):
        async with calling(address) as client:
            for name, clip in clips.items():
                pairs = []
                for number in range(rounds + 1):
                    took: dict[str, float] = {}
                    words = ("one", "two") if number // 2 % 2 else ("two", "one")  # the order matters
                    for which in ("plain", "whisper-1") if number % 2 else ("whisper-1", "plain"):
                        begun = time.perf_counter()
                        if which == "plain":
                            job = await submit(client, clip, no_cache="true", prompt=f"Take {number}, {words[0]}.")
                            assert await is_over(client, job) == "completed"
                            assert (await client.get(f"/jobs/{job}/transcript")).text
                        else:
                            await ask_whisper_1(client, clip, f"Take {number}, {words[1]}.")
                        took[which] = time.perf_counter() - begun
                    pairs.append((took["whisper-1"], took["plain"]))
                ours_s, plain_s = (statistics.median(side) for side in zip(*pairs[1:], strict=True))
                found[name] = {
                    "whisper_1_s": round(ours_s, 4),
                    "plain_s": round(plain_s, 4),
                    "added_ms": round(1000 * statistics.median(a - b for a, b in pairs[1:]), 1),
                    "allowed_ms": round(20 + 10 * plain_s, 1),
                }
            before = peak_mib(pid)
            answered: list[str] = []

            async def call(number: int) -> None:
                answered.append(await ask_whisper_1(client, TEST_AUDIO / "short-video.mp4", f"Caller {number}."))

            begun = time.perf_counter()
            await asyncio.gather(*(call(number) for number in range(CALLERS)))
            elapsed_s = time.perf_counter() - begun
            listed = (await client.get("/jobs", params={"limit": 200})).json()["jobs"]
            queued = [job["id"] for job in reversed(listed) if job["id"] in answered]
            found["callers at once"] = {
                "answered": len(set(answered)),
                "in the queue's order": answered == queued,
                "seconds": round(elapsed_s, 1),
                "peak_mib": {"before": before, "after": peak_mib(pid)},
            }
    return found


async def rival(folder: Path, rounds: int) -> dict[str, Any]:
    """Alternate the same clips between the service and wyoming-faster-whisper with the same weights."""
    from cesar.models import store

    weights = store.locate(MODEL, store=load().models_dir, allow_network=False).directory
    clips = {"5 s": write_five_seconds(folder / "five.wav"), "60 s": write_minute(folder / "minute.wav")}
    found: dict[str, Any] = {}
    with serving(folder, "--model", MODEL, "--offline") as (address, _):
        async with wyoming(folder, weights, clips["5 s"]), calling(address) as client:
            for name, clip in clips.items():
                pairs = []
                for _ in range(rounds + 1):
                    begun = time.perf_counter()
                    assert await ask_wyoming(clip)
                    rival_s = time.perf_counter() - begun
                    begun = time.perf_counter()
                    job = await submit(client, clip, no_cache="true", language="en")
                    assert await is_over(client, job) == "completed"
                    pairs.append((time.perf_counter() - begun, rival_s))
                service_s, rival_s = (statistics.median(side) for side in zip(*pairs[1:], strict=True))
                found[name] = {
                    "service_s": round(service_s, 3),
                    "rival_s": round(rival_s, 3),
                    "times_faster": round(rival_s / service_s, 2),
                }
    return found


async def measure(only: list[str], rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {"cores": os.cpu_count(), "python": sys.version.split()[0], "model": MODEL}
    for name in only:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            match name:
                case "responsive":
                    found[name] = await responsive(place)
                case "load":
                    found[name] = await load_(place)
                case "overhead":
                    found[name] = await overhead(place, rounds)
                case "whisper_1":
                    found[name] = await whisper_1(place, rounds)
                case "rival":
                    found[name] = await rival(place, rounds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ["responsive", "load", "overhead", "rival", "whisper_1"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    print(json.dumps(asyncio.run(measure(asked.only, asked.rounds)), indent=1))


if __name__ == "__main__":
    main()
