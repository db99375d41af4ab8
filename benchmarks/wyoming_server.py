"""wyoming-faster-whisper for the duration of a benchmark, with the same weights as Cesar."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_PORT = 18_765


@asynccontextmanager
async def wyoming(folder: Path, weights: Path, first: Path) -> AsyncIterator[None]:
    """Run the server: int8, beam 5, English, one thread per core. It has transcribed the `first` clip."""
    program = str(Path(sys.executable).with_name("wyoming-faster-whisper"))
    command = [
        *(program, "--uri", f"tcp://127.0.0.1:{_PORT}", "--model", str(weights), "--data-dir", str(folder)),
        *("--local-files-only", "--stt-library", "faster-whisper", "--beam-size", "5"),
        *("--language", "en", "--compute-type", "int8", "--cpu-threads", str(os.cpu_count())),
    ]
    log = folder / "wyoming.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    await ask_wyoming(first)
                    break
                assert process.poll() is None, log.read_text()
                await asyncio.sleep(0.1)
            yield
        finally:
            process.kill()


async def ask_wyoming(clip: Path) -> str:
    """Send a clip on a separate connection; return the text."""
    from wyoming.asr import Transcribe, Transcript
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.client import AsyncTcpClient

    async with AsyncTcpClient("127.0.0.1", _PORT) as client:
        await client.write_event(Transcribe(language="en").event())
        with wave.open(str(clip)) as file:
            form = {"rate": file.getframerate(), "width": file.getsampwidth(), "channels": file.getnchannels()}
            await client.write_event(AudioStart(**form).event())
            while block := file.readframes(16_000):
                await client.write_event(AudioChunk(audio=block, **form).event())
        await client.write_event(AudioStop().event())
        while (event := await client.read_event()) is not None:
            if Transcript.is_type(event.type):
                return str(Transcript.from_event(event).text)
    raise AssertionError("wyoming-faster-whisper gave no transcript")
