"""Parses a form with a recording while it arrives (RFC 7578), and streams the recording to disk.

Fields are limited in number and size, so that no request can take more than a little memory.
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
from cesar.api.http.uploads.file_writer import UploadWriter, require_free_space
from cesar.errors import BadRequest, ServiceStopping, UnsupportedMedia, UploadStalled, UploadTooLarge

FILE_FIELD = "file"
"""The field with the recording."""
MAX_FIELDS = 32
MAX_UNRESTRICTED_FIELDS = 1024
"""The limit where any field is accepted, any number of times."""
MAX_FIELD_BYTES = 64 * 1024
_MAX_TEXT_BYTES = MAX_FIELDS * MAX_FIELD_BYTES
"""Limit of the text of all fields together."""
_MAX_FORM_BYTES = _MAX_TEXT_BYTES + MAX_UNRESTRICTED_FIELDS * 4096
"""Limit of a form without its recording."""
_MAX_PREAMBLE_BYTES = 64 * 1024
_STALL_WINDOW_S = 60.0
_MIN_BYTES_PER_S = 1024
"""What a client must send on average in each `_STALL_WINDOW_S`."""
_MAX_NAME_LENGTH = 255
_HIDDEN_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
_BIDI_CONTROLS = re.compile("[\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Upload:
    """A recording that has arrived and is on the disk."""

    path: Path
    digest: str
    """SHA-256."""
    size_bytes: int
    name: str
    """The caller's name for it; never a path."""
    fields: tuple[tuple[str, str], ...]
    """The other fields, names and values, in their order."""


@asynccontextmanager
async def receive_upload(
    request: Request, service: Service, known_fields: frozenset[str] | None
) -> AsyncIterator[Upload]:
    """Receive the recording of a request; its file is deleted at the end, unless it was moved.

    known_fields: the other fields allowed, each once; None: any field, any number of times.
    Raises `UnsupportedMedia`, `UploadTooLarge`, `UploadStalled`, `BadRequest`, `DiskFull` or `ServiceStopping`.
    """
    settings = service.settings
    parser = _parser_for(request, MAX_UNRESTRICTED_FIELDS if known_fields is None else MAX_FIELDS)
    declared_bytes = int(request.headers.get("Content-Length") or 0)
    if declared_bytes > settings.max_upload_bytes + _MAX_FORM_BYTES:
        raise _too_large(settings.max_upload_bytes)
    await asyncio.to_thread(require_free_space, settings.audio_dir, declared_bytes, settings.min_free_bytes)
    form = _Form(service, known_fields)
    try:
        async for content in _read_body(request, service):
            try:
                for event in parser.parse(content):
                    await form.handle(event)
                form.require_boundary(after_bytes=len(content))
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
    r"""Return the last part of a recording's name, without invisible characters.

    >>> clean_name(r"C:\talks\monday.mp3"), clean_name("../../etc/passwd"), clean_name("..")
    ('monday.mp3', 'passwd', 'recording')
    """
    last = re.split(r"[/\\]", name)[-1]
    visible = "".join(character for character in last if unicodedata.category(character) not in _HIDDEN_CATEGORIES)
    visible = _BIDI_CONTROLS.sub("", visible).strip()[:_MAX_NAME_LENGTH].strip()
    return visible if visible.strip(". ") else "recording"


class _Form:
    """A form being received."""

    def __init__(self, service: Service, known_fields: frozenset[str] | None) -> None:
        self._service = service
        self._known_fields = known_fields
        self._fields: list[tuple[str, str]] = []
        self._text_bytes = 0
        self._part: MultipartSegment | None = None
        self._text = bytearray()
        self._recording: UploadWriter | None = None
        self._name = ""
        self._preamble_bytes = 0

    async def handle(self, event: MultipartSegment | bytes | None) -> None:
        """Handle a parser event: the head of a part, some of its content, or its end."""
        if isinstance(event, MultipartSegment):
            await self._begin(event)
        elif event is None:
            self._end()
        elif self._recording is not None and self._is_recording:
            limit = self._service.settings.max_upload_bytes
            if self._recording.size_bytes + len(event) > limit:
                raise _too_large(limit)
            await self._recording.add(event)
        else:
            self._add_text(event)

    def require_boundary(self, *, after_bytes: int) -> None:
        """Raise `BadRequest` if too many bytes arrive before the first part."""
        if self._part is None and self._recording is None and not self._fields:
            self._preamble_bytes += after_bytes
            if self._preamble_bytes > _MAX_PREAMBLE_BYTES:
                raise BadRequest("the form can't be read: its boundary does not occur in it")

    async def finish(self) -> Upload:
        """Return the upload. Raises `BadRequest` if the recording is missing or empty."""
        if self._recording is None:
            raise _no_file("the form has no recording", "Send it in the field `file`: `curl -F file=@NAME`.")
        if self._recording.size_bytes == 0:
            raise _no_file("the recording is empty", "Check the file that was sent.")
        digest = await self._recording.finish()
        return Upload(self._recording.path, digest, self._recording.size_bytes, self._name, tuple(self._fields))

    async def discard(self) -> None:
        """Delete what has been received."""
        if self._recording is not None:
            await self._recording.discard()

    @property
    def _part_name(self) -> str:
        return "" if self._part is None else str(self._part.name)

    @property
    def _is_recording(self) -> bool:
        return self._part_name == FILE_FIELD

    async def _begin(self, part: MultipartSegment) -> None:
        self._part = part
        if not self._is_recording:
            self._require_field(self._part_name)
            return
        if self._recording is not None:
            raise BadRequest("the form has two recordings", hint="Send each one in a request of its own.")
        if part.filename is None and part.content_type is None:
            raise BadRequest(
                "the field `file` has text instead of a file", hint="With curl: `-F file=@NAME`, with the @."
            )
        self._name = clean_name(part.filename or "")
        path = await self._service.repository.new_upload()
        self._recording = UploadWriter(path, self._service.disk, self._service.settings.min_free_bytes)

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
        if len(self._text) > MAX_FIELD_BYTES:
            raise BadRequest(f"the field {self._part_name[:64]!r} is longer than {MAX_FIELD_BYTES} bytes")
        if self._text_bytes > _MAX_TEXT_BYTES:
            raise BadRequest(f"the form's fields have more than {_MAX_TEXT_BYTES} bytes in total")

    def _require_field(self, name: str) -> None:
        if self._known_fields is None:
            return
        if name not in self._known_fields:
            known = ", ".join(sorted({FILE_FIELD, *self._known_fields}))
            raise BadRequest(f"there is no field {name[:64]!r}", hint=f"Fields: {known}.")
        if any(name == earlier for earlier, _ in self._fields):
            raise BadRequest(f"the field {name!r} occurs twice", hint="Send it once.")


def _parser_for(request: Request, max_fields: int) -> PushMultipartParser:
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMedia(
            f"the content encoding {encoding[:32]!r} is not supported", hint="Send it without Content-Encoding."
        )
    kind, options = parse_options_header(request.headers.get("Content-Type", ""))
    if kind != "multipart/form-data":
        raise UnsupportedMedia(
            f"the content type {kind[:64]!r} is not supported" if kind else "the body has no content type"
        )
    try:
        return PushMultipartParser(options.get("boundary", ""), max_segment_count=max_fields + 1)
    except (MultipartError, UnicodeError) as error:
        raise BadRequest(f"the form has no usable boundary: {error}") from error


async def _read_body(request: Request, service: Service) -> AsyncIterator[bytes]:
    """Yield the body as it arrives, while the client is fast enough and the body not too large."""
    limit = service.settings.max_upload_bytes + _MAX_FORM_BYTES
    received, rate = 0, _MinimumRate()
    async with aclosing(request.stream()) as stream:
        while True:
            try:
                async with asyncio.timeout(rate.timeout_s()):
                    content = await anext(stream, b"")
            except TimeoutError:
                raise UploadStalled(f"the upload stalled or is too slow, after {received} bytes") from None
            except ClientDisconnect:
                raise BadRequest("the client disconnected") from None
            if not content:
                return
            if service.stopping.is_set():
                raise ServiceStopping("the service is shutting down")
            received += len(content)
            rate.record(len(content))
            if received > limit:
                raise _too_large(service.settings.max_upload_bytes)
            yield content


class _MinimumRate:
    """The minimum rate of an upload, in each `_STALL_WINDOW_S`, however fast it was before."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._received = 0

    def record(self, size: int) -> None:
        """Count received bytes."""
        self._received += size
        if self._received >= _STALL_WINDOW_S * _MIN_BYTES_PER_S:
            self._since, self._received = time.monotonic(), 0

    def timeout_s(self) -> float:
        """Return how long to wait for the next bytes."""
        return max(0.0, self._since + _STALL_WINDOW_S - time.monotonic())


def _too_large(max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(f"the recording has more than {max_bytes} bytes, the limit of this service")


def _no_file(message: str, hint: str) -> BadRequest:
    error = BadRequest(message, hint=hint)
    error.field = FILE_FIELD
    return error


def _malformed(error: MultipartError) -> BadRequest:
    reason = str(error.args[0]) if error.args else type(error).__name__
    return BadRequest(f"the form can't be read: {reason[:1].lower()}{reason[1:]}", hint="Send multipart/form-data.")
