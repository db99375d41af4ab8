"""A transcript as OpenAI writes it down. Pure: what was asked for and a transcript come in, text goes out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from cesar.api.http.openai.models import TELLS_LANGUAGES
from cesar.api.http.openai.request import Asked, ResponseFormat
from cesar.engines.languages import LANGUAGES
from cesar.formats import render
from cesar.transcript import UNSPACED_LANGUAGES, Segment, Transcript, Word

JSON = "application/json"
PLAIN = "text/plain; charset=utf-8"
_BY_DURATION = "whisper-1"
_AUDIO_TOKENS_PER_S = 10
_BYTES_PER_TOKEN = 4
"""Of English text; what a prompt counts as, whose tokens nobody has counted."""
_BEFORE_WORDS = "\"'“‘«„¿¡([{-"
_AFTER_WORDS = "\"'”’».,!?:;…)]}-。，！？：；、」』）】"


def media_type_of(response_format: ResponseFormat) -> str:
    """Say of what type an answer in a format is. OpenAI sends every kind of subtitles as plain text."""
    is_json = response_format in (ResponseFormat.JSON, ResponseFormat.VERBOSE_JSON)
    return JSON if is_json else PLAIN


def written(asked: Asked, transcript: Transcript) -> str:
    """Write a transcript in the format that was asked for."""
    match asked.response_format:
        case ResponseFormat.JSON:
            return _dumped(_plain(asked, transcript))
        case ResponseFormat.VERBOSE_JSON:
            return _dumped(_verbose(asked, transcript))
        case ResponseFormat.TEXT:
            return f"{transcript.text}\n"
    return render(transcript, asked.response_format)


def additions(asked: Asked, transcript: Transcript) -> dict[str, Any]:
    """Give what an answer tells besides its text, if it does not tell all."""
    found: dict[str, Any] = {}
    if asked.model == TELLS_LANGUAGES:
        spoken = dict.fromkeys([transcript.language, *(segment.language for segment in transcript.segments)])
        found["languages"] = [{"code": code} for code in spoken if code in LANGUAGES]
    if asked.options.token_logprobs:
        found["logprobs"] = logprobs_of(transcript.segments)
    return found | {"usage": _usage(asked, transcript)}


def logprobs_of(segments: Iterable[Segment]) -> list[dict[str, Any]]:
    """Give each token with its log-probability. A token may be a part of a letter: `bytes` has it exactly."""
    return [
        {"token": (content := bytes.fromhex(token)).decode(errors="replace"), "logprob": logprob, "bytes": [*content]}
        for segment in segments
        for token, logprob in zip(segment.token_bytes, segment.token_logprobs, strict=True)
    ]


def _plain(asked: Asked, transcript: Transcript) -> dict[str, Any]:
    text = {"text": transcript.text}
    return text if asked.options.task == "translate" else text | additions(asked, transcript)


def _verbose(asked: Asked, transcript: Transcript) -> dict[str, Any]:
    is_translated = asked.options.task == "translate"
    answer: dict[str, Any] = {
        "task": asked.options.task,
        "language": LANGUAGES.get(transcript.text_language, transcript.text_language),
        "duration": transcript.duration,
        "text": transcript.text,
    }
    if "segment" in asked.granularities:
        answer["segments"] = [*_segments(transcript)]
    if "word" in asked.granularities:
        answer["words"] = [_word(word) for segment in transcript.segments for word in segment.words]
    return answer if is_translated else answer | {"usage": _by_duration(transcript)}


def _segments(transcript: Transcript) -> Iterable[dict[str, Any]]:
    lead = "" if transcript.text_language in UNSPACED_LANGUAGES else " "
    for number, segment in enumerate(transcript.segments):
        yield {
            "id": number,
            "seek": segment.seek,
            "start": segment.start,
            "end": segment.end,
            "text": f"{lead}{segment.text}",
            "tokens": [*segment.tokens],
            "temperature": segment.temperature,
            "avg_logprob": segment.avg_logprob,
            "compression_ratio": segment.compression_ratio,
            "no_speech_prob": segment.no_speech_prob,
        }


def _word(word: Word) -> dict[str, Any]:
    """A word without the marks around it, unless it is nothing else."""
    bare = word.text.lstrip(_BEFORE_WORDS).rstrip(_AFTER_WORDS)
    return {"word": bare or word.text, "start": word.start, "end": word.end}


def _usage(asked: Asked, transcript: Transcript) -> dict[str, Any]:
    if asked.model == _BY_DURATION:
        return _by_duration(transcript)
    return _by_tokens(transcript.segments, transcript.duration, asked.options.prompt or "")


def _by_duration(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.duration)}


def _by_tokens(segments: Sequence[Segment], duration: float, prompt: str) -> dict[str, Any]:
    """Count tokens: those of the text as the model wrote them, those of the sound by its length."""
    text_tokens = math.ceil(len(prompt.encode()) / _BYTES_PER_TOKEN)
    audio_tokens = math.ceil(duration * _AUDIO_TOKENS_PER_S)
    output_tokens = sum(len(segment.tokens) for segment in segments)
    return {
        "type": "tokens",
        "input_tokens": text_tokens + audio_tokens,
        "input_token_details": {"text_tokens": text_tokens, "audio_tokens": audio_tokens},
        "output_tokens": output_tokens,
        "total_tokens": text_tokens + audio_tokens + output_tokens,
    }


def _dumped(answer: dict[str, Any]) -> str:
    return json.dumps(answer, ensure_ascii=False, allow_nan=False)
