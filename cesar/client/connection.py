"""HTTP requests to one service: retries, and errors from its problem responses."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from cesar.errors import BY_CODE, CesarError, ServiceError, ServiceUnreachable, Unauthorised, UsageError
from cesar.loopback import is_loopback

View = TypeVar("View", bound=BaseModel)
OnWait = Callable[[CesarError, float], None]
TIMEOUT = httpx.Timeout(60.0, connect=5.0)
"""To connect, and without data in either direction."""
RETRY_DELAYS_S = (0.25, 1.0, 2.0)
"""Delays before the retries of a request whose connection broke."""
MAX_WAIT_S = 60.0
"""Total time that the service may ask a request to wait."""
_GATEWAY_ERRORS = frozenset({502, 503, 504})
"""Statuses of a proxy whose service does not answer; the service itself sends a problem document with them."""
_PYTHON_NOISE = re.compile(r"^\[[^\]]*\] | \(_ssl\.c:\d+\)$")
_KEY_HINT = "Set CESAR_API_KEY to a key; the operator of the service creates one with `cesar keys create NAME`."


class Connection:
    """Requests to one service. Raises `UsageError` if the URL can't be that of a service."""

    def __init__(
        self, url: str, api_key: str | None, *, on_wait: OnWait | None, sleep: Callable[[float], None]
    ) -> None:
        address = _parse_url(url)
        self.url = url.rstrip("/")
        self.sleep = sleep
        self._on_wait = on_wait
        self._http = httpx.Client(
            base_url=address,
            headers={} if api_key is None else {"Authorization": f"Bearer {_check_api_key(api_key)}"},
            timeout=TIMEOUT,
            trust_env=not is_loopback(address.host),  # a service on this machine needs no proxy
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def request(self, method: str, path: str, *, is_idempotent: bool = True, **content: Any) -> httpx.Response:
        """Make a request and return the successful response.

        is_idempotent: whether the request may be repeated if the connection breaks.
        """
        waited_s = 0.0
        while True:
            response = self._send(method, path, RETRY_DELAYS_S if is_idempotent else (), content)
            if response.is_success:
                return response
            waited_s += self._wait_or_raise(response, waited_s)

    def get_json(self, path: str) -> dict[str, Any]:
        """Return the JSON object in the response, even if that is an error; an empty one if there is none."""
        try:
            body = self._http.get(path).json()
        except (httpx.HTTPError, ValueError):
            return {}
        return body if isinstance(body, dict) else {}

    @contextmanager
    def stream(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Open a response that is read as it arrives.

        Raises httpx.TransportError if the connection breaks, or a proxy can't reach the service.
        """
        waited_s = 0.0
        while True:
            with self._http.stream("GET", path, headers=headers) as response:
                if response.is_success:
                    yield response
                    return
                response.read()
            if response.status_code in _GATEWAY_ERRORS and not _is_problem_response(response):
                raise httpx.TransportError(f"a proxy answers {response.status_code} {response.reason_phrase}")
            waited_s += self._wait_or_raise(response, waited_s)

    def read(self, kind: type[View], response: httpx.Response) -> View:
        """Parse a response's body."""
        try:
            return kind.model_validate_json(response.content)
        except ValidationError:
            raise self.unexpected_response(response) from None

    def read_list(self, kind: type[View], response: httpx.Response) -> list[View]:
        """Parse a response's body as a list."""
        try:
            return TypeAdapter(list[kind]).validate_json(response.content)  # type: ignore[valid-type]
        except ValidationError:
            raise self.unexpected_response(response) from None

    def unreachable(self, error: httpx.TransportError) -> ServiceUnreachable:
        """Return the error for a service that does not respond, with the reason."""
        match error:
            case httpx.ConnectTimeout():
                reason = f"no connection within {TIMEOUT.connect:g} s"
            case httpx.TimeoutException():
                reason = f"no data for {TIMEOUT.read:g} s"
            case _:
                reason = _PYTHON_NOISE.sub("", str(error)).lower() or "the connection broke"
        return ServiceUnreachable(f"the service at {self.url} can't be reached: {reason}")

    def unexpected_response(self, response: httpx.Response) -> ServiceError:
        """Return the error for a response that is not from Cesar."""
        what = f"{response.status_code} {response.reason_phrase}".strip()
        hint = "Check that it is the URL of `cesar serve`, and check any proxy in between."
        return ServiceError(f"{self.url} answered {what}, which is not a response from Cesar", hint=hint)

    def _send(self, method: str, path: str, delays: tuple[float, ...], content: dict[str, Any]) -> httpx.Response:
        for delay_s in (*delays, None):
            try:
                return self._http.request(method, path, **content)
            except httpx.TransportError as error:
                if delay_s is None:
                    raise self.unreachable(error) from error
                self.sleep(delay_s)
        raise AssertionError

    def _wait_or_raise(self, response: httpx.Response, waited_s: float) -> float:
        """Wait if the service asks for it and the wait is not too long; else raise the response's error."""
        error = self._error_from(response)
        wait_s = _retry_after_s(response)
        if wait_s is None or waited_s + wait_s > MAX_WAIT_S:
            raise error
        if self._on_wait is not None:
            self._on_wait(error, wait_s)
        self.sleep(wait_s)
        return wait_s

    def _error_from(self, response: httpx.Response) -> CesarError:
        try:
            problem = response.json()
            code, detail, hint = str(problem["code"]), str(problem["detail"]), str(problem["hint"])
        except (ValueError, LookupError, TypeError):
            return self.unexpected_response(response)
        if code not in BY_CODE:
            return ServiceError(f"{self.url} answered: {detail}")
        kind = BY_CODE[code]
        error = kind(detail, hint=_KEY_HINT if kind is Unauthorised else hint)
        if isinstance(error, ServiceError):
            error.retry_after_s = _retry_after_s(response)
        return error


def _parse_url(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        address = httpx.URL("")
    if address.scheme not in ("http", "https") or not address.host:
        raise UsageError(f"{url!r} is not the URL of a service", hint="Write it as http://HOST:PORT.")
    return address


def _check_api_key(api_key: str) -> str:
    if not (api_key.isascii() and api_key.isprintable()):
        raise UsageError("the API key has invalid characters", hint="Check CESAR_API_KEY.")
    return api_key


def _is_problem_response(response: httpx.Response) -> bool:
    return str(response.headers.get("Content-Type", "")).startswith("application/problem+json")


def _retry_after_s(response: httpx.Response) -> float | None:
    """Return the seconds of Retry-After (RFC 9110, 10.2.3) if the response is a temporary refusal, else None."""
    value = response.headers.get("Retry-After", "")
    if response.status_code not in (429, 503) or not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
