"""An engine that answers from a script, for tests, demos and fault injection without any weights.

It runs in the same child process and pipeline as the real engine: audio is decoded and speech detected as usual;
only the words come from a JSON file, given as `--model scripted:FILE`:

    {"language": "en",
     "segments": [{"start": 0.3, "end": 2.1, "text": "Hello there."}],
     "faults": [{"at": 12.0, "do": "crash", "unless": "/tmp/crashed-once"}]}

A segment may have its own language (`"language": "de"`, one of the script's `"languages"`): its window is then detected
as that language, and its text in any other language is less likely.

Its tokens are the UTF-8 bytes of its text, each with the log-probability -0.1. It samples nothing, but reports the
requested temperature.

A fault is triggered when the window containing its time is decoded: `crash` (SIGSEGV), `abort`, `kill`, `kill parent`,
`hang`, `exit`, `devour` (allocates memory without end), `nothing` (only creates the `unless` file).
An existing `unless` file suppresses the fault; the file is created when the fault is triggered, so it happens once.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cesar.engines.base import DecodeSettings, EncodedWindow, Hypothesis, TimedWord, Utterance, Window
from cesar.errors import ModelError
from cesar.transcript import ModelIdentity

_LOGPROB = -0.1
_LOGPROB_IN_ANOTHER_LANGUAGE = -0.4


class ScriptedEngine:
    """The `Engine` that reads its text from a script. Raises `ModelError` if the script can't be read."""

    n_mels = 80

    def __init__(self, script: Path) -> None:
        try:
            text = script.read_bytes()
            content = json.loads(text)
            self.languages = frozenset(content.get("languages", [content["language"], "xx"]))
            self._language: str = content["language"]
            self._segments: list[dict[str, Any]] = content["segments"]
            self._faults: list[dict[str, Any]] = content.get("faults", [])
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ModelError(
                f"the script {script} can't be used: {error}", hint="See cesar.engines.scripted."
            ) from error
        digest = hashlib.sha256(text).hexdigest()
        self.identity = ModelIdentity("scripted", "unknown", digest, "cpu", "none")

    def encode(self, window: Window) -> EncodedWindow:
        return EncodedWindow(window, None)

    def language_probabilities(
        self, encoded: EncodedWindow, part: tuple[float, float] | None = None
    ) -> Mapping[str, float]:
        start, end = part or (0.0, encoded.window.duration)
        lines = self._lines(replace(encoded.window, start=encoded.window.start + start, duration=end - start))
        language = next((line["language"] for line in lines if "language" in line), None)
        if language:
            return {**dict.fromkeys(self.languages, 0.0), language: 1.0}
        return {self._language: 0.9, "xx": 0.1}

    def decode(self, batch: Sequence[EncodedWindow], settings: DecodeSettings) -> list[Hypothesis]:
        return [self._decode(encoded.window, settings) for encoded in batch]

    def align(
        self, encoded: EncodedWindow, utterances: Sequence[Utterance], settings: DecodeSettings
    ) -> list[list[TimedWord]]:
        """Spread each text's words evenly over the window."""
        words = [utterance.text.split() for utterance in utterances]
        step = encoded.window.duration / max(1, sum(map(len, words)))
        starts = iter(range(sum(map(len, words))))
        return [
            [TimedWord(step * at, step * (at + 1), word, 1.0) for word in its_words if (at := next(starts)) >= 0]
            for its_words in words
        ]

    def _lines(self, window: Window) -> list[dict[str, Any]]:
        end = window.start + window.duration
        return [line for line in self._segments if window.start <= (line["start"] + line["end"]) / 2 < end]

    def _decode(self, window: Window, settings: DecodeSettings) -> Hypothesis:
        end = window.start + window.duration
        for fault in self._faults:
            if window.start <= fault["at"] < end:
                _trigger(fault)
        lines = self._lines(window)
        utterances = tuple(_utterance(line, window, settings) for line in lines)
        is_in_another = any(line.get("language", settings.language) != settings.language for line in lines)
        return Hypothesis(
            utterances,
            avg_logprob=_LOGPROB_IN_ANOTHER_LANGUAGE if is_in_another else _LOGPROB,
            no_speech_prob=0.0,
            token_count=len(utterances),
            temperature=settings.temperature,
        )


def _utterance(line: Mapping[str, Any], window: Window, settings: DecodeSettings) -> Utterance:
    """Return a scripted line as an utterance of the window; each byte of its text is a token."""
    text = " " + line["text"]
    tokens = tuple(text.encode())
    return Utterance(
        max(0.0, line["start"] - window.start),
        min(line["end"], window.start + window.duration) - window.start,
        text,
        tokens,
        token_ends=tuple(range(1, len(tokens) + 1)),
        token_logprobs=(_LOGPROB,) * len(tokens) if settings.token_logprobs else (),
        token_bytes=tuple(f"{byte:02x}" for byte in tokens) if settings.token_logprobs else (),
    )


def _trigger(fault: Mapping[str, Any]) -> None:
    if marker := fault.get("unless"):
        if Path(marker).exists():
            return
        Path(marker).touch()
    _DEEDS[fault["do"]]()


def _exhaust_memory() -> None:
    taken = []
    while True:
        taken.append(b"x" * 2**24)


_DEEDS: Mapping[str, Callable[[], object]] = {
    "crash": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "kill parent": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "hang": lambda: time.sleep(3600),
    "nothing": lambda: None,
    "exit": lambda: os._exit(7),
    "devour": _exhaust_memory,
}
