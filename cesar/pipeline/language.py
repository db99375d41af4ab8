"""Which language is spoken: asked of the first chunks, until one language is clearly ahead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice

from cesar.engines.base import Engine
from cesar.pipeline.attempts import Attempt, Sound
from cesar.pipeline.recognize import Recognizer

_MOST_CHUNKS = 4
_SURE = 0.8
_UNSURE = 0.5
UNKNOWN = "unknown"


def detect_language(
    engine: Engine, recognizer: Recognizer, sounds: Iterable[Sound]
) -> tuple[str, float, list[Attempt]]:
    """Give the language, its probability, and attempts, begun, at the sounds that were taken to find out.

    Each chunk counts by its length. Without any sound the language is "unknown", with probability 0.
    """
    if len(engine.languages) == 1:
        return next(iter(engine.languages)), 1.0, []
    votes: defaultdict[str, float] = defaultdict(float)
    begun: list[Attempt] = []
    samples = 0
    for sound in islice(sounds, _MOST_CHUNKS):
        attempt = recognizer.hear(recognizer.attempt(sound))
        assert attempt.heard
        begun.append(attempt)
        samples += len(sound.samples)
        for language, probability in engine.language_of(attempt.heard).items():
            votes[language] += probability * len(sound.samples)
        if max(votes.values()) >= _SURE * samples:
            break
    if not begun:
        return UNKNOWN, 0.0, []
    language = max(votes, key=lambda code: votes[code])
    return language, round(votes[language] / samples, 4), begun


def doubt(language: str, probability: float) -> Iterator[str]:
    """A warning if the language is no more than a guess."""
    if language != UNKNOWN and probability < _UNSURE:
        yield f"the language ({language}) is a guess: its probability is {probability:.2f}"
