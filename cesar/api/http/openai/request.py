"""Requests to OpenAI's endpoints: form fields, parsed and checked by OpenAI's rules."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from cesar.api.http.openai.chunking import check_chunking
from cesar.api.http.openai.forms import Form, invalid_field
from cesar.engines.languages import language_code
from cesar.errors import UnknownLanguage, UsageError
from cesar.options import Task, TranscribeOptions

_GRANULARITIES = frozenset({"word", "segment"})
_DIARIZED_FORMAT = "diarized_json"
_NO_SPEAKERS = "Cesar does not distinguish speakers yet; use json or verbose_json."
_NOT_IN_KEYWORDS = "<>\r\n"
IGNORES_STREAM = "whisper-1"


class ResponseFormat(StrEnum):
    """The format of a response."""

    JSON = "json"
    TEXT = "text"
    SRT = "srt"
    VERBOSE_JSON = "verbose_json"
    VTT = "vtt"


@dataclass(frozen=True, slots=True)
class OpenAIRequest:
    """A validated request."""

    model: str
    """The name as sent; `models` resolves it."""
    options: TranscribeOptions
    response_format: ResponseFormat = ResponseFormat.JSON
    granularities: frozenset[str] = frozenset({"segment"})
    is_stream: bool = False


def parse_request(form: Form, task: Task) -> OpenAIRequest:
    """Parse a form. Raises `BadRequest` with the invalid field."""
    model = form.text("model")
    if model is None:
        raise invalid_field("model", "you must provide a model")
    response_format = _format(form)
    if task == "translate":
        return OpenAIRequest(model, _basic_options(form, task), response_format)
    granularities = frozenset(form.listed("timestamp_granularities")) or frozenset({"segment"})
    _require_known("timestamp_granularities", granularities, _GRANULARITIES)
    check_chunking(form.structure("chunking_strategy"))
    _require_no_speakers(form)
    language, candidates = _languages(form)
    request = OpenAIRequest(
        model,
        replace(
            _basic_options(form, task),
            language=language,
            languages=candidates,
            hotwords=_hotwords(form),
            word_timestamps=response_format is ResponseFormat.VERBOSE_JSON and "word" in granularities,
            token_logprobs=_wants_logprobs(form, response_format),
        ),
        response_format,
        granularities,
        is_stream=form.flag("stream") and model != IGNORES_STREAM,
    )
    if request.is_stream and response_format not in (ResponseFormat.JSON, ResponseFormat.TEXT):
        raise invalid_field("stream", f"{response_format} can't be streamed", "Use json or text, or leave stream out.")
    return request


def _format(form: Form) -> ResponseFormat:
    name = (form.text("response_format") or ResponseFormat.JSON).strip()
    if name == _DIARIZED_FORMAT:
        raise invalid_field("response_format", "diarized_json is not available", _NO_SPEAKERS)
    try:
        return ResponseFormat(name)
    except ValueError:
        known = ", ".join(ResponseFormat)
        raise invalid_field("response_format", f"there is no response_format {name[:64]!r}", f"Use {known}.") from None


def _basic_options(form: Form, task: Task) -> TranscribeOptions:
    """Return the options that both endpoints have."""
    try:
        return TranscribeOptions(task=task, prompt=form.text("prompt"), temperature=_temperature(form))
    except UsageError as error:
        raise invalid_field("prompt", error.message, error.hint) from None


def _temperature(form: Form) -> float:
    text = form.text("temperature") or "0"
    try:
        temperature = float(text)
    except ValueError:
        temperature = math.nan
    if not 0 <= temperature <= 1:
        raise invalid_field("temperature", f"temperature is {text[:64]!r}, but must be 0 to 1")
    return temperature


def _languages(form: Form) -> tuple[str | None, tuple[str, ...]]:
    """Return the language, or the candidates."""
    language, candidates = form.text("language"), form.listed("languages")
    if language and candidates:
        raise invalid_field("languages", "language and languages can't be used together", "Leave one of them out.")
    codes = tuple(_code("languages", candidate) for candidate in candidates)
    return _code("language", language) if language else None, codes


def _code(field: str, name: str) -> str:
    try:
        return language_code(name)
    except UnknownLanguage as error:
        raise invalid_field(field, error.message, error.hint) from None


def _hotwords(form: Form) -> str | None:
    """Return OpenAI's keywords and Cesar's own `hotwords`, which clients send as an extra field."""
    keywords = form.listed("keywords")
    for keyword in keywords:
        if set(keyword) & set(_NOT_IN_KEYWORDS):
            raise invalid_field(
                "keywords", f"the keyword {keyword[:64]!r} has a line break, < or >", "Use plain words."
            )
    own = form.text("hotwords")
    return ", ".join([*keywords, *([own] if own else [])]) or None


def _wants_logprobs(form: Form, response_format: ResponseFormat) -> bool:
    requested = frozenset(form.listed("include"))
    _require_known("include", requested, frozenset({"logprobs"}))
    if requested and response_format is not ResponseFormat.JSON:
        raise invalid_field("include", f"logprobs can't be in {response_format}", "Use response_format json.")
    return bool(requested)


def _require_no_speakers(form: Form) -> None:
    for field in ("known_speaker_names", "known_speaker_references"):
        if form.listed(field):
            raise invalid_field(field, "speakers can't be identified by name", _NO_SPEAKERS)


def _require_known(field: str, requested: frozenset[str], known: frozenset[str]) -> None:
    if unknown := sorted(requested - known):
        raise invalid_field(field, f"{field} can't have {unknown[0][:64]!r}", f"Use {' or '.join(sorted(known))}.")
