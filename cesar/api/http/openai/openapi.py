"""The OpenAPI descriptions of OpenAI's endpoints; `forms` and `request` parse their bodies."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_FORMATS = {"type": "string", "enum": ["json", "text", "srt", "verbose_json", "vtt"], "default": "json"}
_COMMON: dict[str, dict[str, Any]] = {
    "file": _TEXT | {"format": "binary", "description": "The recording: any audio or video file."},
    "model": _TEXT | {"description": "A name from `GET /v1/models`.", "examples": ["whisper-1"]},
    "prompt": _TEXT | {"description": "Text whose style to follow."},
    "response_format": _FORMATS | {"description": "The format of the response."},
    "temperature": {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
}
_TRANSCRIPTION_ONLY: dict[str, dict[str, Any]] = {
    "language": _TEXT | {"description": "The spoken language: ISO code, tag or name. Default: detected."},
    "languages[]": _TEXTS | {"description": "Candidates for language detection; a single one counts as `language`."},
    "keywords[]": _TEXTS | {"description": "Words to expect, without `<`, `>` and line breaks."},
    "include[]": _TEXTS | {"description": "`logprobs`: the log-probability of each token, with json only."},
    "timestamp_granularities[]": _TEXTS | {"description": "`word`, `segment` or both, with verbose_json."},
    "stream": {
        "type": "boolean",
        "default": False,
        "description": "Stream the text as it is recognised; not for whisper-1.",
    },
    "chunking_strategy": _TEXT | {"description": "Accepted, but without effect: speech is always detected."},
}
TRANSCRIPT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The transcript in the requested format.",
        "headers": {
            "X-Cesar-Job": {"description": "The id of the job.", "schema": _TEXT},
            "X-Cesar-Warnings": {"description": "Warnings about the text, if any.", "schema": _TEXT},
        },
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/plain": {"schema": _TEXT},
            "text/event-stream": {"schema": _TEXT},
        },
    }
}


def _form(properties: dict[str, dict[str, Any]]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": ["file", "model"]}
    example = {"file": "talk.mp3", "model": "whisper-1"}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema, "example": example}}}
    }


TRANSCRIPTION = _form(_COMMON | _TRANSCRIPTION_ONLY)
TRANSLATION = _form(_COMMON)
