"""Transcripts in OpenAI's formats. Pure: a request and a transcript in, text out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from cesar.api.http.openai.models import REPORTS_LANGUAGES
from cesar.api.http.openai.request import OpenAIRequest, ResponseFormat
from cesar.engines.languages import LANGUAGES
from cesar.formats import render
from cesar.transcript import UNSPACED_LANGUAGES, Segment, Transcript, Word

JSON = "application/json"
PLAIN = "text/plain; charset=utf-8"
_BY_DURATION = "whisper-1"
_AUDIO_TOKENS_PER_S = 10
_BYTES_PER_TOKEN = 4
"""Of English text; an estimate for prompts, whose tokens are not counted."""
_BEFORE_WORDS = "\"'“‘«„¿¡([{-"
_AFTER_WORDS = "\"'”’».,!?:;…)]}-。，！？：；、」』）】"


def media_type_of(response_format: ResponseFormat) -> str:
    """Return the media type of a response format. OpenAI sends all subtitles as plain text."""
    is_json = response_format in (ResponseFormat.JSON, ResponseFormat.VERBOSE_JSON)
    return JSON if is_json else PLAIN


def render_response(request: OpenAIRequest, transcript: Transcript) -> str:
    """Return a transcript in the requested format."""
    match request.response_format:
        case ResponseFormat.JSON:
            return _dump(_json(request, transcript))
        case ResponseFormat.VERBOSE_JSON:
            return _dump(_verbose_json(request, transcript))
        case ResponseFormat.TEXT:
            return f"{transcript.text}\n"
    return render(transcript, request.response_format)


def extra_fields(request: OpenAIRequest, transcript: Transcript) -> dict[str, Any]:
    """Return the fields besides the text of a response that is not verbose."""
    found: dict[str, Any] = {}
    if request.model == REPORTS_LANGUAGES:
        spoken = dict.fromkeys([transcript.language, *(segment.language for segment in transcript.segments)])
        found["languages"] = [{"code": code} for code in spoken if code in LANGUAGES]
    if request.options.token_logprobs:
        found["logprobs"] = logprobs_of(transcript.segments)
    return found | {"usage": _usage(request, transcript)}


def logprobs_of(segments: Iterable[Segment]) -> list[dict[str, Any]]:
    """Return each token with its log-probability. A token may be part of a character: `bytes` has it exactly."""
    return [
        {"token": (content := bytes.fromhex(token)).decode(errors="replace"), "logprob": logprob, "bytes": [*content]}
        for segment in segments
        for token, logprob in zip(segment.token_bytes, segment.token_logprobs, strict=True)
    ]


def _json(request: OpenAIRequest, transcript: Transcript) -> dict[str, Any]:
    text = {"text": transcript.text}
    return text if request.options.task == "translate" else text | extra_fields(request, transcript)


def _verbose_json(request: OpenAIRequest, transcript: Transcript) -> dict[str, Any]:
    is_translated = request.options.task == "translate"
    body: dict[str, Any] = {
        "task": request.options.task,
        "language": LANGUAGES.get(transcript.text_language, transcript.text_language),
        "duration": transcript.duration,
        "text": transcript.text,
    }
    if "segment" in request.granularities:
        body["segments"] = [*_segments(transcript)]
    if "word" in request.granularities:
        body["words"] = [_word(word) for segment in transcript.segments for word in segment.words]
    return body if is_translated else body | {"usage": _by_duration(transcript)}


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
    """Return a word without the punctuation around it, unless it is nothing else."""
    stripped = word.text.lstrip(_BEFORE_WORDS).rstrip(_AFTER_WORDS)
    return {"word": stripped or word.text, "start": word.start, "end": word.end}


def _usage(request: OpenAIRequest, transcript: Transcript) -> dict[str, Any]:
    if request.model == _BY_DURATION:
        return _by_duration(transcript)
    return _by_tokens(transcript.segments, transcript.duration, request.options.prompt or "")


def _by_duration(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.duration)}


def _by_tokens(segments: Sequence[Segment], duration: float, prompt: str) -> dict[str, Any]:
    """Count tokens: those of the text as generated, those of the audio by its duration."""
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


def _dump(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False, allow_nan=False)
