"""Takes a form with a recording apart while it arrives (RFC 7578): the recording goes to the disk as it comes.

What a form may have is limited in number and size, so that nobody's request can take more than a little memory.
"""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from cesar.api.http.dependencies import Service
from cesar.api.http.uploads.file_writer import Arrival, require_room
from cesar.errors import BadRequest, ServiceStopping, UnsupportedMedia, UploadStalled, UploadTooLarge

FILE = "file"
"""The field that has the recording."""
MOST_FIELDS = 32
MOST_FREE_FIELDS = 1024
"""How many there may be where any field is taken, and any number of times."""
MOST_FIELD_BYTES = 64 * 1024
_TEXT_BYTES = MOST_FIELDS * MOST_FIELD_BYTES
"""How much text there may be in all fields together."""
_FORM_BYTES = _TEXT_BYTES + MOST_FREE_FIELDS * 4096
"""What a form may have besides its recording."""
_PREAMBLE_BYTES = 64 * 1024
_SILENCE_S = 60.0
_SLOWEST_BYTES_PER_S = 1024
"""What a client must send on average in each `_SILENCE_S`."""
_LONGEST_NAME = 255
_NOT_IN_NAMES = ("Cc", "Cs", "Zl", "Zp")
_TURNS_TEXT_ROUND = re.compile("[\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Upload:
    """A recording that has arrived, and is on the disk."""

    path: Path
    digest: str
    """SHA-256."""
    size_bytes: int
    name: str
    """What the caller calls it; never a path."""
    fields: tuple[tuple[str, str], ...]
    """What else was in the form, names and texts, in its order."""


@asynccontextmanager
async def receive(request: Request, service: Service, known_fields: frozenset[str] | None) -> AsyncIterator[Upload]:
    """Take the recording of a request; its file is deleted in the end, unless it was moved away.

    known_fields: what else may be in the form, each once; None: anything, any number of times.
    Raises `UnsupportedMedia`, `UploadTooLarge`, `UploadStalled`, `BadRequest`, `DiskFull` or `ServiceStopping`.
    """
    settings = service.settings
    parser = _parser_for(request, MOST_FREE_FIELDS if known_fields is None else MOST_FIELDS)
    told_bytes = int(request.headers.get("Content-Length") or 0)
    if told_bytes > settings.max_upload_bytes + _FORM_BYTES:
        raise _too_large(settings.max_upload_bytes)
    await asyncio.to_thread(require_room, settings.audio_dir, told_bytes, settings.min_free_bytes)
    form = _Form(service, known_fields)
    try:
        async for content in _contents(request, service):
            try:
                for event in parser.parse(content):
                    await form.take(event)
                form.require_parts(after_bytes=len(content))
            except MultipartError as error:
                raise _malformed(error) from error
        try:
            parser.close()
        except MultipartError as error:
            raise _malformed(error) from error
        yield await form.finish()
    finally:
        await form.discard()


def clean_name(name: str) -> str:
    r"""Give the last part of a recording's name, without what can't be shown.

    >>> clean_name(r"C:\talks\monday.mp3"), clean_name("../../etc/passwd"), clean_name("..")
    ('monday.mp3', 'passwd', 'recording')
    """
    last = re.split(r"[/\\]", name)[-1]
    shown = "".join(letter for letter in last if unicodedata.category(letter) not in _NOT_IN_NAMES)
    shown = _TURNS_TEXT_ROUND.sub("", shown).strip()[:_LONGEST_NAME].strip()
    return shown if shown.strip(". ") else "recording"


class _Form:
    """What has come of a form so far."""

    def __init__(self, service: Service, known_fields: frozenset[str] | None) -> None:
        self._service = service
        self._known_fields = known_fields
        self._fields: list[tuple[str, str]] = []
        self._text_bytes = 0
        self._part: MultipartSegment | None = None
        self._text = bytearray()
        self._recording: Arrival | None = None
        self._name = ""
        self._preamble_bytes = 0

    async def take(self, event: MultipartSegment | bytes | None) -> None:
        """Take what the parser tells: the head of a part, some of its content, or its end."""
        if isinstance(event, MultipartSegment):
            await self._begin(event)
        elif event is None:
            self._end()
        elif self._recording is not None and self._is_recording:
            most = self._service.settings.max_upload_bytes
            if self._recording.size_bytes + len(event) > most:
                raise _too_large(most)
            await self._recording.add(event)
        else:
            self._add_text(event)

    def require_parts(self, *, after_bytes: int) -> None:
        """Raise `BadRequest` if something else comes than the parts of a form."""
        if self._part is None and self._recording is None and not self._fields:
            self._preamble_bytes += after_bytes
            if self._preamble_bytes > _PREAMBLE_BYTES:
                raise BadRequest("the form can't be read: its boundary is nowhere in it")

    async def finish(self) -> Upload:
        """Give the recording. Raises `BadRequest` if there is none, or nothing in it."""
        if self._recording is None:
            raise _no_file("the form has no recording", "Send it in the field `file`: `curl -F file=@NAME`.")
        if self._recording.size_bytes == 0:
            raise _no_file("the recording has no bytes", "Check the file that was sent.")
        digest = await self._recording.finish()
        return Upload(self._recording.path, digest, self._recording.size_bytes, self._name, tuple(self._fields))

    async def discard(self) -> None:
        """Delete what has come."""
        if self._recording is not None:
            await self._recording.discard()

    @property
    def _part_name(self) -> str:
        return "" if self._part is None else str(self._part.name)

    @property
    def _is_recording(self) -> bool:
        return self._part_name == FILE

    async def _begin(self, part: MultipartSegment) -> None:
        self._part = part
        if not self._is_recording:
            self._require_field(self._part_name)
            return
        if self._recording is not None:
            raise BadRequest("the form has two recordings", hint="Send each one in a request of its own.")
        if part.filename is None and part.content_type is None:
            raise BadRequest("the field `file` has a text and no file", hint="With curl: `-F file=@NAME`, with the @.")
        self._name = clean_name(part.filename or "")
        path = await self._service.repository.new_upload()
        self._recording = Arrival(path, self._service.disk, self._service.settings.min_free_bytes)

    def _end(self) -> None:
        if not self._is_recording:
            try:
                self._fields.append((self._part_name, self._text.decode()))
            except UnicodeDecodeError:
                raise BadRequest(f"the field {self._part_name!r} is not UTF-8 text") from None
        self._part, self._text = None, bytearray()

    def _add_text(self, text: bytes) -> None:
        self._text += text
        self._text_bytes += len(text)
        if len(self._text) > MOST_FIELD_BYTES:
            raise BadRequest(f"the field {self._part_name[:64]!r} is longer than {MOST_FIELD_BYTES} bytes")
        if self._text_bytes > _TEXT_BYTES:
            raise BadRequest(f"the form's fields have more than {_TEXT_BYTES} bytes together")

    def _require_field(self, name: str) -> None:
        if self._known_fields is None:
            return
        if name not in self._known_fields:
            known = ", ".join(sorted({FILE, *self._known_fields}))
            raise BadRequest(f"there is no field {name[:64]!r}", hint=f"Fields: {known}.")
        if any(name == earlier for earlier, _ in self._fields):
            raise BadRequest(f"the field {name!r} is there twice", hint="Send it once.")


def _parser_for(request: Request, most_fields: int) -> PushMultipartParser:
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMedia(f"a body in {encoding[:32]!r} is not taken", hint="Send it without Content-Encoding.")
    kind, options = parse_options_header(request.headers.get("Content-Type", ""))
    if kind != "multipart/form-data":
        raise UnsupportedMedia(f"a body of type {kind[:64]!r} is not taken" if kind else "the body has no type")
    try:
        return PushMultipartParser(options.get("boundary", ""), max_segment_count=most_fields + 1)
    except (MultipartError, UnicodeError) as error:
        raise BadRequest(f"the form has no boundary that can be used: {error}") from error


async def _contents(request: Request, service: Service) -> AsyncIterator[bytes]:
    """Give the body as it comes, as long as its client keeps up and there is not too much of it."""
    most = service.settings.max_upload_bytes + _FORM_BYTES
    come, pace = 0, _Pace()
    async with aclosing(request.stream()) as stream:
        while True:
            try:
                async with asyncio.timeout(pace.patience_s()):
                    content = await anext(stream, b"")
            except TimeoutError:
                raise UploadStalled(f"the upload stands still or is too slow, after {come} bytes") from None
            except ClientDisconnect:
                raise BadRequest("the client broke off") from None
            if not content:
                return
            if service.stopping.is_set():
                raise ServiceStopping("the service is about to end")
            come += len(content)
            pace.note(len(content))
            if come > most:
                raise _too_large(service.settings.max_upload_bytes)
            yield content


class _Pace:
    """Whether an upload goes on: in each `_SILENCE_S` so much must come, however fast it was before."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._come = 0

    def note(self, size: int) -> None:
        """Count what has come."""
        self._come += size
        if self._come >= _SILENCE_S * _SLOWEST_BYTES_PER_S:
            self._since, self._come = time.monotonic(), 0

    def patience_s(self) -> float:
        """Return how long the next bytes are waited for."""
        return max(0.0, self._since + _SILENCE_S - time.monotonic())


def _too_large(most_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(f"the recording has more than {most_bytes} bytes, which is as much as is taken")


def _no_file(message: str, hint: str) -> BadRequest:
    error = BadRequest(message, hint=hint)
    error.field = FILE
    return error


def _malformed(error: MultipartError) -> BadRequest:
    reason = str(error.args[0]) if error.args else type(error).__name__
    return BadRequest(f"the form can't be read: {reason[:1].lower()}{reason[1:]}", hint="Send multipart/form-data.")
