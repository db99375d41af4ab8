"""`Client`: a Cesar service from Python. What jobs look like is in `cesar.api.http.schemas`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from cesar.api.http.schemas import EventView, JobsView, JobView
from cesar.client.connection import Connection, OnWait
from cesar.client.event_stream import Event, stream_events
from cesar.client.upload import OnSent, open_upload
from cesar.errors import UsageError
from cesar.formats.subtitles.cues import SubtitleOptions
from cesar.options import TranscribeOptions

__all__ = ["Client", "Event", "EventView", "JobView", "JobsView"]


class Client:
    """Talks to one service, over one connection after the other. A thread needs a client of its own.

    url: where the service is, such as `http://127.0.0.1:5000`.
    api_key: needed if the service listens beyond its machine.
    on_wait: hears that the service has asked to be asked again later, with the error and the seconds.

    Every method raises the `CesarError` that the service answers with, by its code: `JobNotFound`, `Unauthorised`
    and so on; and `ServiceUnreachable` if it does not answer. What can be asked twice without harm is asked again when
    the connection breaks, and anything if the service asks for that within a minute (Retry-After).

    >>> with Client("http://127.0.0.1:5000") as client:  # doctest: +SKIP
    ...     job = client.submit("talk.mp3")
    ...     for event in client.events(job.id):
    ...         print(event.kind, event.data)
    ...     print(client.transcript(job.id, "srt"))
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        on_wait: OnWait | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = Connection(url, api_key, on_wait=on_wait, sleep=sleep)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._connection.url

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def submit(  # noqa: PLR0913 - the recording, what is wished for, and the terms, all with defaults
        self,
        path: str | PathLike[str],
        options: TranscribeOptions | None = None,
        *,
        model: str | None = None,
        priority: int = 0,
        no_cache: bool = False,
        idempotency_key: str | None = None,
        on_sent: OnSent | None = None,
    ) -> JobView:
        """Send a recording and give its job.

        model: None is the service's own choice.
        idempotency_key: sent again, the same key and request give the same job; then a broken connection is no end.
        on_sent: called with the bytes that are sent and their total.
        Raises `InputError` if the file can't be read, `UploadTooLarge`, `TooManyJobs`, `IdempotencyConflict`.
        """
        form = _form_fields(options or TranscribeOptions(), model, priority, no_cache=no_cache)
        fields = {name: _to_form_value(value) for name, value in form.items()}
        with open_upload(Path(path), on_sent) as file:
            response = self._connection.request(
                "POST",
                "/transcribe",
                is_idempotent=idempotency_key is not None,
                data=fields,
                files={"file": file},
                headers=_idempotency_header(idempotency_key),
            )
        return self._connection.read(JobView, response)

    def submit_url(
        self,
        url: str,
        options: TranscribeOptions | None = None,
        *,
        model: str | None = None,
        priority: int = 0,
        no_cache: bool = False,
        idempotency_key: str | None = None,
    ) -> JobView:
        """Have the service fetch a recording from an http or https address; otherwise as `submit`."""
        response = self._connection.request(
            "POST",
            "/transcribe/url",
            is_idempotent=idempotency_key is not None,
            json={"url": url, **_form_fields(options or TranscribeOptions(), model, priority, no_cache=no_cache)},
            headers=_idempotency_header(idempotency_key),
        )
        return self._connection.read(JobView, response)

    def job(self, job_id: str) -> JobView:
        """Give a job. Raises `JobNotFound`."""
        return self._connection.read(JobView, self._connection.request("GET", _job_path(job_id)))

    def jobs(  # noqa: PLR0913 - all have defaults
        self,
        *,
        status: Sequence[str] = (),
        model: str | None = None,
        name: str | None = None,
        id_prefix: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
        include_text: bool = False,
    ) -> JobsView:
        """Give up to `limit` jobs, the newest first, and the cursor of the next page.

        status: only jobs of one of these. model, name: only jobs for this model, with this in their names.
        id_prefix: only jobs whose ids begin so. cursor: `next_cursor` of the page before.
        include_text: have the jobs with their whole texts, else `text` is None. A page of long texts has fewer jobs.
        """
        wanted = {"status": list(status), "model": model, "name": name, "id_prefix": id_prefix, "cursor": cursor}
        params = {key: value for key, value in wanted.items() if value} | {"limit": limit}
        params |= {"include": "text"} if include_text else {}
        return self._connection.read(JobsView, self._connection.request("GET", "/jobs", params=params))

    def events(self, job_id: str, after: str | None = None) -> Iterator[Event]:
        """Give what happens to a job as it happens, from its beginning, or after the event of the id `after`.

        Ends with the event `end` or `deleted`. A connection that breaks is opened again, and it goes on where it was;
        after a minute without the service `ServiceUnreachable` is raised.
        """
        return stream_events(self._connection, f"{_job_path(job_id)}/events", after)

    def history(self, job_id: str) -> list[EventView]:
        """Give the changes of a job's status so far, the oldest first."""
        response = self._connection.request("GET", f"{_job_path(job_id)}/history")
        return self._connection.read_list(EventView, response)

    def transcript(
        self,
        job_id: str,
        format: str = "txt",  # noqa: A002 - what it is called everywhere
        *,
        subtitles: SubtitleOptions | None = None,
    ) -> str:
        """Give a job's transcript in a format; of a job that isn't completed, what is recognised so far.

        subtitles: the limits of srt and vtt; without them, the service's.

        Read JSON back by `Transcript.from_dict(json.loads(text))`. Raises `UnknownFormat`.
        """
        params: dict[str, str | int | float] = {"format": format}
        if subtitles is not None:
            params |= {
                "max_line_length": subtitles.max_line_length,
                "max_lines": subtitles.max_lines,
                "max_cue_duration": subtitles.max_cue_duration_s,
            }
        response = self._connection.request("GET", f"{_job_path(job_id)}/transcript", params=params)
        return response.content.decode()

    def cancel(self, job_id: str) -> JobView:
        """Cancel a job: at once if it waits, else as soon as its worker hears of it."""
        return self._connection.read(JobView, self._connection.request("POST", f"{_job_path(job_id)}/cancel"))

    def retry(self, job_id: str) -> JobView:
        """Queue a failed or cancelled job again. Raises `IllegalMove` for others."""
        response = self._connection.request("POST", f"{_job_path(job_id)}/retry", is_idempotent=False)
        return self._connection.read(JobView, response)

    def has_worker(self) -> bool:
        """Tell whether anybody does the service's jobs. True also where the service does not say."""
        return self._connection.get_json("/health").get("worker") != "stopped"

    def delete(self, job_id: str) -> None:
        """Remove a job, its recording and its text for good. Raises `IllegalMove` while it is at work."""
        self._connection.request("DELETE", _job_path(job_id), is_idempotent=False)


def _form_fields(options: TranscribeOptions, model: str | None, priority: int, *, no_cache: bool) -> dict[str, Any]:
    """Give the fields of a request that are not as they would be anyway."""
    defaults = asdict(TranscribeOptions())
    fields: dict[str, Any] = {name: value for name, value in asdict(options).items() if value != defaults[name]}
    if options.languages:
        fields["languages"] = ",".join(options.languages)
    more = {"model": model, "priority": priority or None, "no_cache": no_cache or None}
    return fields | {name: value for name, value in more.items() if value is not None}


def _to_form_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _idempotency_header(key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    if not key or not (key.isascii() and key.isprintable() and key == key.strip()):
        raise UsageError(f"the key {key!r} can't be sent", hint="Use ASCII letters, without blanks around them.")
    return {"Idempotency-Key": key}


def _job_path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"
