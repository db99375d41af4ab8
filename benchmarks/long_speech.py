"""Creates the recordings for `scripts/bench speed` and `memory`: 16 kHz, mono, 16 bit, without repetition.

    scripts/bench long_speech FOLDER [--audio FOLDER] [--cache FOLDER]

ten-minutes.wav: clips of the audio folder separated by pauses, then telephone prompts. one-hour.wav: the same, more
prompts, then dialogue. five-seconds.wav, sixty-seconds.wav, sixty-1.wav to sixty-4.wav: excerpts. A .txt file next to a
recording has its words, where known. Prompts and dialogue are in the Debian packages asterisk-core-sounds-en-g722,
asterisk-core-sounds-en and flight-of-the-amazon-queen: they are downloaded to the cache with `apt-get download` and
unpacked there with `dpkg-deb -x`; nothing is installed.
"""

from __future__ import annotations

import argparse
import gzip
import re
import subprocess
import sys
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import mpeg_audio
from benchmarks.clips import TEST_AUDIO, clips
from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.samples import SAMPLE_RATE

Sound = NDArray[np.int16]

CLIPS = (
    "two-cities.wav",
    "spontaneous.wav",
    "sonnet-1.mp3",
    "phone-prompt-8k.wav",
    "printing-lj.m4a",
    "meeting-es2003a-0-30s.wav",
    "jfk.flac",
    "short-video.mp4",
)
FIRST_PAUSE_S, LONGER_BY_S = 1.5, 1.0
BETWEEN_PROMPTS_S, BETWEEN_LINES_S = 0.5, 0.4
MINUTES_OF_PROMPTS = 20
PROMPTS, WORDS, DIALOGUE = "asterisk-core-sounds-en-g722", "asterisk-core-sounds-en", "flight-of-the-amazon-queen"
_SPOKEN = re.compile(r"[A-Za-z0-9 ,.'’!?;:-]+")
"""Text without symbols and remarks, read as it is."""
_AMONG_THE_CLIPS = "demo-congrats"
"""The prompt that is phone-prompt-8k.wav."""


@dataclass
class Compilation:
    """Concatenated sounds, with their words."""

    sounds: list[Sound] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    samples: int = 0

    def add(self, sound: Sound, words: str, pause_s: float) -> None:
        """Append a sound, followed by silence."""
        silence = np.zeros(round(pause_s * SAMPLE_RATE), np.int16)
        self.sounds += [sound, silence]
        self.samples += len(sound) + len(silence)
        self.words.append(words)

    @property
    def minutes(self) -> float:
        """The length in minutes."""
        return self.samples / SAMPLE_RATE / 60

    def joined(self) -> Sound:
        """Return the whole sound."""
        return np.concatenate(self.sounds)


def ten_minutes(audio: Path, prompts: Iterator[tuple[Sound, str]]) -> Compilation:
    """Return clips of several speakers, followed by increasingly long pauses, then prompts."""
    by_name = {clip.name: clip for clip in clips(audio)}
    compilation = Compilation()
    for number, clip in enumerate(by_name[name] for name in CLIPS if name in by_name):
        compilation.add(decoded(clip.path), clip.reference, FIRST_PAUSE_S + number * LONGER_BY_S)
    add_prompts(compilation, prompts, 10)
    return compilation


def one_hour(compilation: Compilation, prompts: Iterator[tuple[Sound, str]], cache: Path) -> None:
    """Append the remaining prompts, then dialogue."""
    add_prompts(compilation, prompts, compilation.minutes + MINUTES_OF_PROMPTS)
    (container,) = package(DIALOGUE, cache).rglob("queen.1c")
    seen: set[bytes] = set()
    for line in mpeg_audio.lines(container.read_bytes()):
        if compilation.minutes >= 60:
            return
        if line not in seen:
            compilation.add(mpeg_audio.decode(line, SAMPLE_RATE), "", BETWEEN_LINES_S)
            seen.add(line)
    raise SystemExit(f"{container.name} has too little speech for an hour")


def add_prompts(compilation: Compilation, prompts: Iterator[tuple[Sound, str]], minutes: float) -> None:
    """Append prompts until the recording is that long, or none are left."""
    while compilation.minutes < minutes and (prompt := next(prompts, None)):
        compilation.add(*prompt, BETWEEN_PROMPTS_S)


def prompts_of(cache: Path) -> Iterator[tuple[Sound, str]]:
    """Yield the prompts of three or more words, in the order of the list."""
    (listed,) = package(WORDS, cache).rglob("core-sounds-en.txt*")
    content = gzip.decompress(listed.read_bytes()) if listed.suffix == ".gz" else listed.read_bytes()
    by_name = {path.stem: path for path in package(PROMPTS, cache).rglob("en_US_f_Allison/*.g722")}
    for line in content.decode(errors="replace").splitlines():
        name, _, words = (part.strip() for part in line.partition(": "))
        if name in by_name and name != _AMONG_THE_CLIPS and len(words.split()) >= 3 and _SPOKEN.fullmatch(words):
            yield decoded(by_name[name]), words


def package(name: str, cache: Path) -> Path:
    """Return the folder of an unpacked Debian package, downloaded if it is not in the cache."""
    folder = cache / name
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["apt-get", "download", name], cwd=cache, check=True, stdout=sys.stderr)
            (fetched,) = cache.glob(f"{name}_*.deb")
            subprocess.run(["dpkg-deb", "-x", str(fetched), str(folder)], check=True)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"the Debian package {name} can't be had, which needs apt-get: {error}") from error
    return folder


def decoded(path: Path) -> Sound:
    """Return the samples of a file."""
    recording = Recording(path)
    samples = np.clip(np.concatenate(list(recording.blocks())), -1, 1)
    recording.close()
    return np.asarray(samples * 32767, np.int16)


def five_seconds(audio: Path) -> tuple[Sound, str]:
    """Return a sentence, or its beginning up to a pause; by default that of the reading, without words."""
    sentences = [clip for clip in clips(audio) if clip.name.startswith("lj/") and clip.reference[0].isupper()]
    if sentences:
        nearest = min(sentences, key=lambda clip: abs(clip.duration_s - 5))
        return decoded(nearest.path), nearest.reference
    reading = decoded(audio / "printing-lj.m4a")[: 6 * SAMPLE_RATE]
    step = SAMPLE_RATE // 5
    loudness = {at: float(np.abs(reading[at : at + step]).mean()) for at in range(4 * SAMPLE_RATE, len(reading), step)}
    return reading[: min(loudness, key=loudness.__getitem__) + step], ""


def write(path: Path, sound: Sound, words: str = "") -> None:
    """Write a recording, and its words if known."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(sound.tobytes())
    if words:
        path.with_suffix(".txt").write_text(words + "\n", encoding="utf-8")
    sys.stderr.write(f"{path.name}: {len(sound) / SAMPLE_RATE:.1f} s\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the recordings go")
    parser.add_argument("--audio", type=Path, default=TEST_AUDIO, help="folder with a manifest.json")
    parser.add_argument("--cache", type=Path, help="where packages are kept; left out: FOLDER/packages")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    cache = asked.cache or asked.folder / "packages"
    write(asked.folder / "five-seconds.wav", *five_seconds(asked.audio))
    minute = 60 * SAMPLE_RATE
    write(asked.folder / "sixty-seconds.wav", decoded(asked.audio / "printing-lj.m4a")[:minute])
    prompts = prompts_of(cache)
    compilation = ten_minutes(asked.audio, prompts)
    sound = compilation.joined()
    write(asked.folder / "ten-minutes.wav", sound, " ".join(compilation.words))
    for number in range(4):  # spread over the clips and the prompts
        start = number * (len(sound) - minute) // 3
        write(asked.folder / f"sixty-{number + 1}.wav", sound[start : start + minute])
    one_hour(compilation, prompts, cache)
    write(asked.folder / "one-hour.wav", compilation.joined())


if __name__ == "__main__":
    main()
