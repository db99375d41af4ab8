"""Four clips of a minute at once: `four`, Cesar's service against wyoming-faster-whisper, both with beam 5."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks.processes import median
from benchmarks.service import calling, is_over, serving, submit
from benchmarks.speed.commands import weights
from benchmarks.wyoming_server import ask_wyoming, wyoming

CESAR, WYOMING = "cesar serve", "wyoming-faster-whisper"


def four(model: str, clips: Sequence[Path], short: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Measure the seconds until the last text; both servers get the language and have the model loaded."""
    with TemporaryDirectory() as name:
        taken = asyncio.run(_in_turns(model, clips, short, rounds, Path(name)))
    found = {name: median(seconds, 3) for name, seconds in taken.items()}
    return {
        name: {
            "last text, s": found[name],
            "times faster": round(found[WYOMING] / found[name], 2),
            "runs": [round(second, 3) for second in seconds],
        }
        for name, seconds in taken.items()
    }


async def _in_turns(
    model: str, clips: Sequence[Path], short: Path, rounds: int, folder: Path
) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {CESAR: [], WYOMING: []}
    with serving(folder, "--model", model, "--offline") as (address, _):
        async with wyoming(folder, weights(model), short), calling(address) as client:
            await _text_of(client, short)
            for number in range(rounds):
                for name in (CESAR, WYOMING) if number % 2 else (WYOMING, CESAR):
                    begun = time.perf_counter()
                    asked = (_text_of(client, clip) if name == CESAR else ask_wyoming(clip) for clip in clips)
                    assert all(await asyncio.gather(*asked))
                    taken[name].append(time.perf_counter() - begun)
    return taken


async def _text_of(client: httpx.AsyncClient, clip: Path) -> str:
    job = await submit(client, clip, no_cache="true", language="en", beam_size="5")
    assert await is_over(client, job) == "completed"
    return (await client.get(f"/jobs/{job}/transcript")).text
