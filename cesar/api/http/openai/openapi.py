"""How the forms of OpenAI's endpoints are described for `/docs`; they are read by `forms` and `asked`."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_FORMATS = {"type": "string", "enum": ["json", "text", "srt", "verbose_json", "vtt"], "default": "json"}
_COMMON: dict[str, dict[str, Any]] = {
    "file": _TEXT | {"format": "binary", "description": "The recording: any audio or video file."},
    "model": _TEXT | {"description": "A name from `GET /v1/models`.", "examples": ["whisper-1"]},
    "prompt": _TEXT | {"description": "Text in the style to be followed."},
    "response_format": _FORMATS | {"description": "How the text is written down."},
    "temperature": {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
}
_MORE: dict[str, dict[str, Any]] = {
    "language": _TEXT | {"description": "What is spoken: ISO code, tag or name; left out: it is detected."},
    "languages[]": _TEXTS | {"description": "What may be spoken; one is taken as `language`."},
    "keywords[]": _TEXTS | {"description": "Words to be expected, without `<`, `>` and line breaks."},
    "include[]": _TEXTS | {"description": "`logprobs`: the log-probability of each token, with json only."},
    "timestamp_granularities[]": _TEXTS | {"description": "`word`, `segment` or both, with verbose_json."},
    "stream": {"type": "boolean", "default": False, "description": "Have the text as it is recognised; not whisper-1."},
    "chunking_strategy": _TEXT | {"description": "Taken, and without effect: speech is always detected."},
}
WRITTEN: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "What was said, in the format that was asked for.",
        "headers": {
            "X-Cesar-Job": {"description": "The id of the job.", "schema": _TEXT},
            "X-Cesar-Warnings": {"description": "What is to be known of the text, if anything.", "schema": _TEXT},
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


TRANSCRIPTION = _form(_COMMON | _MORE)
TRANSLATION = _form(_COMMON)
