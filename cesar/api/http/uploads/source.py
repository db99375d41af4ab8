"""`Source`: where the recording of a new job is, stored already or still to be fetched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

from cesar.api.http.uploads.multipart import Upload, clean_name
from cesar.api.storage.recordings import AudioStore
from cesar.errors import AddressRefused


@dataclass(frozen=True, slots=True)
class Source:
    """The recording of a new job: the fields of `Job` that say where it is, and its name."""

    name: str
    audio_path: str | None = None
    audio_digest: str | None = None
    audio_bytes: int | None = None
    source_url: str | None = None

    @classmethod
    def of_upload(cls, upload: Upload, store: AudioStore) -> Self:
        """Return where an upload will be once its job is queued."""
        path = str(store.path_of(upload.digest))
        return cls(upload.name, audio_path=path, audio_digest=upload.digest, audio_bytes=upload.size_bytes)

    @classmethod
    def at_address(cls, url: str, name: str | None) -> Self:
        """Return a recording to be fetched, by default named after the last part of its address.

        Raises `AddressRefused` if the address can't be read.
        """
        return cls(clean_name(name or _last_part(url)), source_url=url)


def _last_part(url: str) -> str:
    """Return the last part of an address's path, or its host if the path is empty."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise AddressRefused(f"the address can't be read: {error}") from None
    return unquote(parts.path).rstrip("/").rpartition("/")[2] or parts.hostname or ""
