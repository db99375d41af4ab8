"""One service's HTTP: what is asked again and when, and its problems as our errors."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from cesar.errors import BY_CODE, CesarError, ServiceError, ServiceUnreachable, Unauthorised, UsageError

View = TypeVar("View", bound=BaseModel)
OnWait = Callable[[CesarError, float], None]
TIMEOUT = httpx.Timeout(60.0, connect=5.0)
"""To connect, and without a byte in either direction."""
RETRY_DELAYS_S = (0.25, 1.0, 2.0)
"""The delays before a request is made again whose connection broke."""
MAX_WAIT_S = 60.0
"""How long a request may be put off by the service, all in all."""
_GATEWAY_ERRORS = frozenset({502, 503, 504})
"""What a proxy answers while the service behind it does not; the service itself tells of a problem with them."""
_PYTHON_NOISE = re.compile(r"^\[[^\]]*\] | \(_ssl\.c:\d+\)$")
_KEY_HINT = "Set CESAR_API_KEY to a key; whoever runs the service makes one with `cesar keys create NAME`."


class Connection:
    """Requests to one service. Raises `UsageError` for what can't be the address of one."""

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
            trust_env=not _is_loopback(address.host),  # a proxy has nothing to do with this machine's own service
        )

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def request(self, method: str, path: str, *, is_idempotent: bool = True, **content: Any) -> httpx.Response:
        """Make a request and give the response, which is no error.

        is_idempotent: whether it does no harm to ask twice, so that it is asked again after a broken connection.
        """
        waited_s = 0.0
        while True:
            response = self._send(method, path, RETRY_DELAYS_S if is_idempotent else (), content)
            if response.is_success:
                return response
            waited_s += self._wait_or_raise(response, waited_s)

    def get_json(self, path: str) -> dict[str, Any]:
        """Return the JSON object that is answered, also with an error; an empty one if there is none."""
        try:
            body = self._http.get(path).json()
        except (httpx.HTTPError, ValueError):
            return {}
        return body if isinstance(body, dict) else {}

    @contextmanager
    def stream(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Open a response that is read as it comes.

        Raises httpx.TransportError if the connection breaks, also that of a proxy to the service.
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
        """Read a response's body."""
        try:
            return kind.model_validate_json(response.content)
        except ValidationError:
            raise self.unexpected_response(response) from None

    def read_list(self, kind: type[View], response: httpx.Response) -> list[View]:
        """Read a response's body that has several of them."""
        try:
            return TypeAdapter(list[kind]).validate_json(response.content)  # type: ignore[valid-type]
        except ValidationError:
            raise self.unexpected_response(response) from None

    def unreachable(self, error: httpx.TransportError) -> ServiceUnreachable:
        """Say that the service does not answer, and why."""
        match error:
            case httpx.ConnectTimeout():
                reason = f"no connection within {TIMEOUT.connect:g} s"
            case httpx.TimeoutException():
                reason = f"not a byte in {TIMEOUT.read:g} s"
            case _:
                reason = _PYTHON_NOISE.sub("", str(error)).lower() or "the connection broke"
        return ServiceUnreachable(f"the service at {self.url} can't be reached: {reason}")

    def unexpected_response(self, response: httpx.Response) -> ServiceError:
        """Say that a response is not one of Cesar's."""
        what = f"{response.status_code} {response.reason_phrase}".strip()
        hint = "Check that it is the address of `cesar serve`, and look at what stands between."
        return ServiceError(f"{self.url} answered {what}, but not as Cesar does", hint=hint)

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
        """Wait if the service asks for that and it is not too long; else raise the error of a response."""
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
        raise UsageError(f"{url!r} is no address of a service", hint="Write it as http://HOST:PORT.")
    return address


def _check_api_key(api_key: str) -> str:
    if not (api_key.isascii() and api_key.isprintable()):
        raise UsageError("the API key has letters that no key has", hint="Check CESAR_API_KEY.")
    return api_key


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_problem_response(response: httpx.Response) -> bool:
    return str(response.headers.get("Content-Type", "")).startswith("application/problem+json")


def _retry_after_s(response: httpx.Response) -> float | None:
    """Give the seconds of Retry-After (RFC 9110, 10.2.3), if the response is one that passes."""
    value = response.headers.get("Retry-After", "")
    if response.status_code not in (429, 503) or not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
