"""The language of each chunk: which languages are compared, which text is accepted, and what is reported.

A chunk that seems to be in another language than the recording is decoded in both, and the likelier text is accepted.
Each chunk is judged by its own sound alone, so that a resumed run gives the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from cesar.engines.languages import UNKNOWN
from cesar.pipeline.recognition.decoding_passes import Attempt, Decoded, LanguageEvidence, Rival
from cesar.pipeline.recognition.language_changes import Change, likely_changes
from cesar.pipeline.recognition.language_detection import LanguageDetector, LanguageSettings, Probabilities, among
from cesar.pipeline.recognition.quality import QualityCheck
from cesar.pipeline.samples import SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Choice:
    """The language that chunks are decoded in by default, and those that they may be in instead."""

    usual: str
    allowed: frozenset[str]
    """Only the default one if it was named, or if the model knows no other."""

    @property
    def is_fixed(self) -> bool:
        return len(self.allowed) == 1


class LanguageCheck:
    """Decides the language of each stretch. Pure, except that it queries the model."""

    def __init__(
        self,
        detector: LanguageDetector,
        choice: Choice,
        settings: LanguageSettings | None = None,
    ) -> None:
        self._detector = detector
        self._choice = choice
        self._quality = QualityCheck()
        self._settings = settings or LanguageSettings()

    def settle(self, decoded: Decoded) -> tuple[Decoded, LanguageEvidence | None, Attempt | None]:
        """Return the text to continue with and its language evidence, or an attempt in another language to compare."""
        attempt = decoded.attempt
        if attempt.rival:
            return self._compare(decoded, attempt.rival)
        if attempt.tried:
            return decoded, None, None
        probabilities = decoded.hypothesis.languages or self._detector.in_own_window(attempt)
        likeliest = _likeliest(probabilities)
        if likeliest != attempt.language and not self._detector.is_confident(probabilities[likeliest], attempt):
            probabilities = self._detector.in_full_window(attempt.samples, attempt.start)
        if rival := self._rival(attempt.language, probabilities):
            return decoded, None, _in(rival, decoded, probabilities)
        return self._settle(decoded, probabilities)

    def _rival(self, language: str, probabilities: Probabilities) -> str | None:
        """Return the language to compare with this one, if any."""
        settings = self._settings
        likely = among(probabilities, self._choice.allowed)
        if self._choice.is_fixed:
            return None
        first, second, *_ = likely
        if first != language:
            return first if likely[first] >= settings.min_other else None
        is_close = likely[first] < settings.agreed and likely[second] >= settings.min_rival
        return second if is_close else None

    def _next_rival(self, tried: tuple[str, ...], likely: Probabilities) -> str | None:
        """Return which of the two likeliest languages is left to compare, if the first one tried is unlikely."""
        if likely[tried[0]] >= self._settings.min_own:
            return None
        two = [language for language in list(likely)[:2] if likely[language] >= self._settings.min_rival]
        return next((language for language in two if language not in tried), None)

    def change_in(self, decoded: Decoded) -> int | None:
        """Return where the language changes within an attempt, in samples; None if nothing suggests a change."""
        attempt, allowed = decoded.attempt, self._choice.allowed
        if self._choice.is_fixed or attempt.rival or attempt.tried or self._is_sure_of(decoded):
            return None
        changes = likely_changes(attempt, lambda *part: among(self._detector.in_part(attempt, *part), allowed))
        taken: list[tuple[float, int]] = []
        for change in changes[: self._settings.max_changes]:
            if clear := self._clear(change, attempt):
                taken.append((change.gain + math.log(clear), change.at))
            if clear >= self._settings.clear_change:
                break
        return max(taken)[1] if taken else None

    def _clear(self, change: Change, attempt: Attempt) -> float:
        """Return how clearly the two sides of a change are in different languages; 0 if they aren't."""
        sides = ((attempt.start, change.at), (change.at, attempt.end))
        inside, outside = reversed(sides) if change.begins else sides
        other, probability = next(iter(self._of_stretch(attempt, *outside).items()))
        if other == change.language or probability < self._settings.min_change:
            return 0.0
        clear = probability * self._of_stretch(attempt, *inside)[change.language]
        return clear if clear >= self._settings.min_change else 0.0

    def _of_stretch(self, attempt: Attempt, start: int, end: int) -> dict[str, float]:
        samples = attempt.samples[start - attempt.start : end - attempt.start]
        return among(self._detector.in_full_window(samples, start), self._choice.allowed)

    def next_likely(self, decoded: Decoded) -> Attempt | None:
        """Return an attempt in the next likely language after the text in this one was rejected."""
        attempt = decoded.attempt
        if self._choice.is_fixed or attempt.encoded is None or not 1 <= len(attempt.tried) < self._settings.max_tried:
            return None
        probabilities = self._detector.in_own_window(attempt)
        for language, probability in among(probabilities, self._choice.allowed).items():
            if language not in attempt.tried:
                return _in(language, decoded, probabilities) if probability >= self._settings.min_next else None
        return None

    def _compare(self, decoded: Decoded, rival: Rival) -> tuple[Decoded, LanguageEvidence | None, Attempt | None]:
        tried = decoded.attempt.tried
        better = decoded if self._is_better(decoded, rival) else rival.decoded
        taken = replace(better, attempt=replace(better.attempt, rival=None, tried=tried))
        if another := self._next_rival(tried, among(rival.probabilities, self._choice.allowed)):
            return taken, None, _in(another, taken, rival.probabilities)
        return self._settle(taken, rival.probabilities)

    def _is_better(self, decoded: Decoded, rival: Rival) -> bool:
        if self._quality.rejection_reason(decoded) or decoded.hypothesis.is_cut_off:  # out of tokens: a loop
            return False
        logprob = decoded.hypothesis.avg_logprob
        if self._quality.rejection_reason(rival.decoded):
            return logprob >= self._settings.min_next_avg_logprob
        was_likelier = _likeliest(rival.probabilities) == rival.decoded.attempt.language
        margin = self._settings.rival_margin if was_likelier else 0.0
        return logprob > rival.decoded.hypothesis.avg_logprob + margin

    def _is_sure_of(self, decoded: Decoded) -> bool:
        """Whether text and language are so certain that the sound holds no other language."""
        language = decoded.hypothesis.languages.get(decoded.attempt.language, 1.0)
        hypothesis, settings = decoded.hypothesis, self._settings
        weakest = (
            hypothesis.avg_logprob if hypothesis.min_utterance_logprob is None else hypothesis.min_utterance_logprob
        )
        is_likely = (
            hypothesis.avg_logprob >= settings.sure_avg_logprob and weakest >= settings.sure_utterance_avg_logprob
        )
        return is_likely and language >= self._settings.sure_language

    def language_of_attempt(self, decoded: Decoded) -> LanguageEvidence:
        """Return the language evidence of a stretch that will be decoded in parts."""
        attempt = decoded.attempt
        probabilities = decoded.hypothesis.languages or self._detector.in_own_window(attempt)
        probability = among(probabilities, self._choice.allowed)[attempt.language]
        return LanguageEvidence(attempt.language, round(probability, 4), start=attempt.start, is_whole=attempt.is_whole)

    def _settle(
        self, decoded: Decoded, probabilities: Probabilities
    ) -> tuple[Decoded, LanguageEvidence | None, Attempt | None]:
        attempt = decoded.attempt
        probability = among(probabilities, self._choice.allowed | {attempt.language})[attempt.language]
        tells = attempt.is_whole or attempt.duration >= self._settings.min_reported_s
        other = self._other_language(attempt.language, probabilities) if tells else ""
        other = other or self._other_in_a_part(decoded)
        evidence = LanguageEvidence(attempt.language, round(probability, 4), other, attempt.start, attempt.is_whole)
        settled = replace(attempt, tried=attempt.tried or (attempt.language,))
        return replace(decoded, attempt=settled), evidence, None

    def _other_language(self, language: str, probabilities: Probabilities) -> str:
        """Return the language that is clearly spoken instead of the text's; empty if there is none."""
        other = _likeliest(probabilities)
        if other != language and probabilities[other] >= self._settings.clear:
            return other
        is_unlikely = probabilities.get(language, 0.0) < self._settings.min_own
        return UNKNOWN if is_unlikely and not self._choice.is_fixed else ""

    def _other_in_a_part(self, decoded: Decoded) -> str:
        """Return a language that is clearly spoken in a part of a chunk, but is not allowed."""
        attempt = decoded.attempt
        if self._detector.knows_only(self._choice.allowed) or not attempt.is_whole or self._is_sure_of(decoded):
            return ""
        changes = likely_changes(attempt, lambda *part: self._detector.in_part(attempt, *part))
        for start, end in pairwise([attempt.start, *sorted(change.at for change in changes), attempt.end]):
            if end - start == attempt.end - attempt.start or end - start < self._settings.min_reported_s * SAMPLE_RATE:
                continue
            samples = attempt.samples[start - attempt.start : end - attempt.start]
            other = self._other_language(attempt.language, self._detector.in_full_window(samples, start))
            if other not in ("", UNKNOWN, *self._choice.allowed):
                return other
        return ""


def _in(language: str, decoded: Decoded, probabilities: Probabilities) -> Attempt:
    """Return an attempt at the same stretch in another language."""
    attempt = decoded.attempt
    return replace(
        attempt,
        before=None,
        language=language,
        rival=Rival(decoded, probabilities),
        tried=(*(attempt.tried or (attempt.language,)), language),
    )


def _likeliest(probabilities: Probabilities) -> str:
    return max(probabilities, key=lambda language: probabilities[language])
