"""Shared by the tests with OpenAI's own clients: the recording's text, how to connect, and the resulting jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.acceptance.service import PATIENCE_S, Service
from tests.support import media

SPEECH = media.AUDIO / "jfk.m4a"
"""11 s of speech: one chunk."""
LONG = media.AUDIO / "sonnet-1.mp3"
"""53 s of speech: several chunks."""
IN_THE_MIDDLE = 25.0
"""A second of the long one that is neither in its first chunk nor in its last."""
LINES = {1.0: "And so, my fellow Americans:", 4.5: "ask not what your country", 8.5: "can do for you."}
TEXT = " ".join(LINES.values())


def write_words(path: Path, *faults: dict[str, Any]) -> str:
    """Write a script that fits the short recording, in English or German; give the model's name."""
    segments = [{"start": at, "end": at + 1.5, "text": text} for at, text in LINES.items()]
    words = {"language": "en", "languages": ["en", "de"], "segments": segments, "faults": faults}
    path.write_text(json.dumps(words), encoding="utf-8")
    return f"scripted:{path}"


def create_client(service: Service, **options: Any) -> OpenAI:
    """Connect the official client. max_retries, timeout and the like are its own options."""
    return OpenAI(**settings_for(service, **options))


def create_async_client(service: Service, **options: Any) -> AsyncOpenAI:
    """Connect the official client for asyncio."""
    return AsyncOpenAI(**settings_for(service, **options))


def settings_for(service: Service, **options: Any) -> dict[str, Any]:
    """Return what a program changes to leave OpenAI: the address and the key."""
    return {"base_url": f"{service.url}/v1", "api_key": "not needed here", "timeout": PATIENCE_S, **options}


def jobs(service: Service) -> list[dict[str, Any]]:
    """Return all jobs of the service."""
    answer = service.client.get("/jobs", params={"limit": 200}).raise_for_status().json()
    assert answer["next_cursor"] is None
    found: list[dict[str, Any]] = answer["jobs"]
    return found


def require_complete(answer: BaseModel) -> None:
    """Check that a response has all fields of its class: the client itself never does."""
    type(answer).model_validate(answer.model_dump(), strict=True)
