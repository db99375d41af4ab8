"""`Client`: use a Cesar service from Python. Its job models are in `cesar.api.http.schemas`."""

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
    """A client of one service. Each thread needs its own.

    url: the service's URL, such as `http://127.0.0.1:5000`.
    api_key: required if the service listens beyond its own machine.
    on_wait: called with the error and the seconds before each wait that the service asks for.

    Every method raises the `CesarError` for the error code of the response (`JobNotFound`, `Unauthorised` and so
    on), and `ServiceUnreachable` if there is no response. Idempotent requests are retried if the connection breaks,
    and any request if the service asks for a retry within a minute (Retry-After).

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
        """URL of the service."""
        return self._connection.url

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def submit(  # noqa: PLR0913 - the recording, and keywords with defaults
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
        """Upload a recording and return its job.

        model: None leaves the choice to the service.
        idempotency_key: the same key and request give the same job, so the upload is retried if the connection breaks.
        on_sent: called with the bytes sent and their total.
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
        """Submit the http or https URL of a recording for the service to fetch; otherwise like `submit`."""
        response = self._connection.request(
            "POST",
            "/transcribe/url",
            is_idempotent=idempotency_key is not None,
            json={"url": url, **_form_fields(options or TranscribeOptions(), model, priority, no_cache=no_cache)},
            headers=_idempotency_header(idempotency_key),
        )
        return self._connection.read(JobView, response)

    def job(self, job_id: str) -> JobView:
        """Return a job. Raises `JobNotFound`."""
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
        """Return up to `limit` jobs, newest first, and the cursor of the next page.

        status: only jobs with one of these. model: only jobs for this model. name: only jobs whose names contain it.
        id_prefix: only jobs whose ids begin with it. cursor: `next_cursor` of the previous page.
        include_text: include the whole texts, else `text` is None. A page of long texts has fewer jobs.
        """
        wanted = {"status": list(status), "model": model, "name": name, "id_prefix": id_prefix, "cursor": cursor}
        params = {key: value for key, value in wanted.items() if value} | {"limit": limit}
        params |= {"include": "text"} if include_text else {}
        return self._connection.read(JobsView, self._connection.request("GET", "/jobs", params=params))

    def events(self, job_id: str, after: str | None = None) -> Iterator[Event]:
        """Yield the events of a job as they happen, from its start or after the event with id `after`.

        The last event is `end` or `deleted`. A broken connection is reopened and the stream resumed; after a minute
        without the service, `ServiceUnreachable` is raised.
        """
        return stream_events(self._connection, f"{_job_path(job_id)}/events", after)

    def history(self, job_id: str) -> list[EventView]:
        """Return the changes of a job's status so far, oldest first."""
        response = self._connection.request("GET", f"{_job_path(job_id)}/history")
        return self._connection.read_list(EventView, response)

    def transcript(
        self,
        job_id: str,
        format: str = "txt",  # noqa: A002 - its name everywhere
        *,
        subtitles: SubtitleOptions | None = None,
    ) -> str:
        """Return a job's transcript in a format; until the job is completed, what is recognised so far.

        subtitles: the limits of srt and vtt; None means the service's defaults.

        `Transcript.from_dict(json.loads(text))` parses JSON. Raises `UnknownFormat`.
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
        """Cancel a job: at once if it is waiting, else as soon as its worker notices."""
        return self._connection.read(JobView, self._connection.request("POST", f"{_job_path(job_id)}/cancel"))

    def retry(self, job_id: str) -> JobView:
        """Queue a failed or cancelled job again. Raises `InvalidTransition` for others."""
        response = self._connection.request("POST", f"{_job_path(job_id)}/retry", is_idempotent=False)
        return self._connection.read(JobView, response)

    def has_worker(self) -> bool:
        """Return whether the service has a worker; True if it does not say."""
        return self._connection.get_json("/health").get("worker") != "stopped"

    def delete(self, job_id: str) -> None:
        """Delete a job, its recording and its text for good. Raises `InvalidTransition` while the job is running."""
        self._connection.request("DELETE", _job_path(job_id), is_idempotent=False)


def _form_fields(options: TranscribeOptions, model: str | None, priority: int, *, no_cache: bool) -> dict[str, Any]:
    """Return the fields of a request that differ from the defaults."""
    defaults = asdict(TranscribeOptions())
    fields: dict[str, Any] = {
        name: ",".join(value) if isinstance(value, tuple) else value
        for name, value in asdict(options).items()
        if value != defaults[name]
    }
    more = {"model": model, "priority": priority or None, "no_cache": no_cache or None}
    return fields | {name: value for name, value in more.items() if value is not None}


def _to_form_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _idempotency_header(key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    if not key or not (key.isascii() and key.isprintable() and key == key.strip()):
        raise UsageError(
            f"the key {key!r} can't be sent", hint="Use printable ASCII characters, without spaces at either end."
        )
    return {"Idempotency-Key": key}


def _job_path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"
