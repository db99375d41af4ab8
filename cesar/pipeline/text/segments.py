"""Last stage: utterances become readable segments, and a chunk gets its ledger.

A segment is a sentence where the text has sentences. Segments lie on speech, within their chunk, and never overlap.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from cesar.formats.typography import WITH_ORDINAL_STOPS
from cesar.ledger import chunk_ledger
from cesar.pipeline.recognition.decoding_passes import PlacedUtterance, Recognized
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.chunking import PlannedChunk
from cesar.pipeline.text.token_spans import share_tokens
from cesar.pipeline.text.word_timing import place
from cesar.transcript import UNSPACED_LANGUAGES, Chunk, Segment, Span, Word

_SENTENCE_PAUSE_S = 0.8
"""A sentence that pauses longer than this becomes two segments."""
_MAX_CHARACTERS = 300
_MIN_DURATION_S = 0.02
_MAX_BOUNDARY_SHIFT_S = 0.7
"""Maximum shift of an estimated sentence boundary to reach a pause."""

_SENTENCE_END = re.compile(r"""[.?!…]+["'”’»)\]]*\s+|[。！？]+["'”’」』）]*""")
_OPENING = "\"'“‘«„([¿¡"
_ENDS_SENTENCE = re.compile(r"""[.?!…。！？]["'”’»)\]」』）]*$""")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Mt|Jr|Sr|vs|No|Nr|Bd|bzw|ca|Fig|etc|e\.g|i\.e|z\.B|[A-Z]))\.\s*$"
)


_ORDINAL = re.compile(r"\b\d{1,2}\.\s*$")


def finish(recognized: Recognized, *, is_translated: bool = False) -> Chunk:
    """Return the finished chunk."""
    plan = recognized.chunk
    start, end = _seconds(plan.start), _seconds(plan.end)
    sentences = (
        part
        for utterance, segment in zip(recognized.accepted, _without_overlaps(recognized, start, end), strict=True)
        for part in _sentences(segment, utterance.token_ends, plan, "en" if is_translated else utterance.language)
    )
    segments = tuple(_rounded(_merged(sentences, is_translated=is_translated)))
    dropped = [
        Span(
            round(rejected_span.start, 3),
            round(rejected_span.end, 3),
            "dropped",
            rejected_span.reason,
            rejected_span.text or None,
        )
        for rejected_span in recognized.rejected
    ]
    speech = [(_seconds(region.start), _seconds(region.end)) for region in plan.regions]
    ledger = tuple(chunk_ledger(start, end, speech, dropped))
    evidence = recognized.evidence
    if evidence is None:
        return Chunk(start, end, segments, ledger)
    return Chunk(start, end, segments, ledger, (), evidence.probability, evidence.other)


def _seconds(samples: int) -> float:
    return round(samples / SAMPLE_RATE, 3)


def _without_overlaps(recognized: Recognized, start: float, end: float) -> Iterable[Segment]:
    """Yield utterances without overlaps, each starting and ending on speech where it touches any.

    An utterance whose time is taken gets a moment at the end, so that no text is lost.
    """
    count = len(recognized.accepted)
    moment = min(_MIN_DURATION_S, (end - start) / (count + 1))
    reached = start
    for left, utterance in zip(range(count, 0, -1), recognized.accepted, strict=True):
        begin, finish = _on_speech(utterance.start, utterance.end, recognized.chunk)
        begin = min(max(begin, reached), end - left * moment)
        reached = min(max(finish, begin + moment), end - (left - 1) * moment)
        yield _segment(utterance, begin, reached, recognized.chunk)


def _segment(utterance: PlacedUtterance, start: float, end: float, plan: PlannedChunk) -> Segment:
    return Segment(
        start=start,
        end=end,
        text=utterance.text,
        words=tuple(place(utterance.words, plan.regions, start=start, end=end)),
        avg_logprob=round(utterance.avg_logprob, 4),
        compression_ratio=round(utterance.compression_ratio, 4),
        no_speech_prob=round(utterance.no_speech_prob, 4),
        temperature=utterance.temperature,
        seek=utterance.seek,
        tokens=utterance.tokens,
        token_logprobs=tuple(round(logprob, 5) for logprob in utterance.token_logprobs),
        token_bytes=utterance.token_bytes,
        language=utterance.language,
    )


def _on_speech(start: float, end: float, plan: PlannedChunk) -> tuple[float, float]:
    """Trim the silence at both ends."""
    touched = [
        (region.start / SAMPLE_RATE, region.end / SAMPLE_RATE)
        for region in plan.regions
        if region.start / SAMPLE_RATE < end and region.end / SAMPLE_RATE > start
    ]
    if not touched:
        return start, end
    return max(start, touched[0][0]), min(end, touched[-1][1])


def _sentences(segment: Segment, token_ends: Sequence[int], plan: PlannedChunk, language: str) -> Iterable[Segment]:
    """Split into sentences; their times come from the words or, without words, from text lengths and pauses."""
    texts = split_sentences(segment.text, language)
    words = list(segment.words)
    letters = sum(map(len, texts)) or 1
    start, done = segment.start, 0
    for text, its in zip(texts, share_tokens(token_ends, segment.text, texts), strict=True):
        done += len(text)
        end = next_start = segment.end
        if own := _take(words, text):
            start, end = own[0].start, own[-1].end
        elif done < letters:
            guess = _spoken_until(done / letters, segment, plan)
            end, next_start = _in_pause(max(start, guess), segment, plan)
        yield replace(
            segment,
            start=start,
            end=end,
            text=text,
            words=tuple(own),
            tokens=segment.tokens[its],
            token_logprobs=segment.token_logprobs[its],
            token_bytes=segment.token_bytes[its],
        )
        start = next_start


def _spoken_until(fraction: float, segment: Segment, plan: PlannedChunk) -> float:
    """Return the time at which this fraction of the segment's speech has passed, silence excluded."""
    speech = [
        (max(start, segment.start), min(end, segment.end))
        for region in plan.regions
        if (start := region.start / SAMPLE_RATE) < segment.end and (end := region.end / SAMPLE_RATE) > segment.start
    ] or [(segment.start, segment.end)]
    left = fraction * sum(end - start for start, end in speech)
    for start, end in speech:
        if left <= end - start:
            return start + left
        left -= end - start
    return segment.end


def _merged(segments: Iterable[Segment], *, is_translated: bool) -> Iterable[Segment]:
    """Join the parts of a sentence that was spoken without a long pause."""
    open_one: Segment | None = None
    for segment in segments:
        if open_one and _continues(open_one, segment):
            space = " " if is_translated or segment.language not in UNSPACED_LANGUAGES else ""
            open_one = replace(
                open_one,
                end=segment.end,
                text=open_one.text + space + segment.text,
                words=open_one.words + segment.words,
                tokens=open_one.tokens + segment.tokens,
                token_logprobs=open_one.token_logprobs + segment.token_logprobs,
                token_bytes=open_one.token_bytes + segment.token_bytes,
            )
        else:
            if open_one:
                yield open_one
            open_one = segment
    if open_one:
        yield open_one


def _continues(before: Segment, after: Segment) -> bool:
    return (
        before.language == after.language
        and not _ENDS_SENTENCE.search(before.text)
        and after.start - before.end <= _SENTENCE_PAUSE_S
        and len(before.text) + len(after.text) <= _MAX_CHARACTERS
    )


def _rounded(segments: Iterable[Segment]) -> Iterable[Segment]:
    """Round times to the millisecond; an empty segment gets one, and the next starts after it."""
    reached = 0.0
    for segment in segments:
        start = max(round(segment.start, 3), reached)
        reached = max(round(segment.end, 3), round(start + 0.001, 3))
        yield replace(segment, start=start, end=reached)


def split_sentences(text: str, language: str = "en") -> list[str]:
    """Split into sentences, but not after an abbreviation or an ordinal number ("3. Oktober").

    >>> split_sentences("Dr. Wu left. She said: no!")
    ['Dr. Wu left.', 'She said: no!']
    """
    sentences: list[str] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        sentence = text[start : match.end()]
        goes_on = text[match.end() :].lstrip(_OPENING)[:1].islower()
        is_ordinal = language in WITH_ORDINAL_STOPS and _ORDINAL.search(sentence) is not None
        if not (goes_on or is_ordinal or _ABBREVIATION.search(sentence)):
            sentences.append(sentence.strip())
            start = match.end()
    sentences.append(text[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _take(words: list[Word], text: str) -> list[Word]:
    """Remove the words of the text from the front of the list, and return them."""
    wanted, taken = len("".join(text.split())), list[Word]()
    while words and wanted > 0:
        wanted -= len("".join(words[0].text.split()))
        taken.append(words.pop(0))
    return taken


def _in_pause(time: float, segment: Segment, plan: PlannedChunk) -> tuple[float, float]:
    """Return start and end of the nearest pause within the segment; the time itself if none is near enough."""
    pauses = [(before.end / SAMPLE_RATE, after.start / SAMPLE_RATE) for before, after in pairwise(plan.regions)]
    inside = [pause for pause in pauses if segment.start < pause[0] and pause[1] < segment.end]

    def distance(pause: tuple[float, float]) -> float:
        return max(pause[0] - time, time - pause[1], 0.0)

    nearest = min(inside, key=distance, default=(time, time))
    return nearest if distance(nearest) <= _MAX_BOUNDARY_SHIFT_S else (time, time)
