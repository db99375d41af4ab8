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
AGAIN_AFTER_S = (0.25, 1.0, 2.0)
"""The pauses before a request is made again whose connection broke."""
LONGEST_WAIT_S = 60.0
"""How long a request may be put off by the service, all in all."""
_AWAY = frozenset({502, 503, 504})
"""What a proxy answers while the service behind it does not; the service itself tells of a problem with them."""
_PYTHONS_MARKS = re.compile(r"^\[[^\]]*\] | \(_ssl\.c:\d+\)$")
_KEY_HINT = "Set CESAR_API_KEY to a key; whoever runs the service makes one with `cesar keys create NAME`."


class Connection:
    """Requests to one service. Raises `UsageError` for what can't be the address of one."""

    def __init__(
        self, url: str, api_key: str | None, *, on_wait: OnWait | None, sleep: Callable[[float], None]
    ) -> None:
        address = _address(url)
        self.url = url.rstrip("/")
        self.sleep = sleep
        self._on_wait = on_wait
        self._http = httpx.Client(
            base_url=address,
            headers={} if api_key is None else {"Authorization": f"Bearer {_token(api_key)}"},
            timeout=TIMEOUT,
            trust_env=not _is_loopback(address.host),  # a proxy has nothing to do with this machine's own service
        )

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def ask(self, method: str, path: str, *, is_repeatable: bool = True, **content: Any) -> httpx.Response:
        """Make a request and give the answer, which is no error.

        is_repeatable: whether it does no harm to ask twice, so that it is asked again after a broken connection.
        """
        waited_s = 0.0
        while True:
            answer = self._send(method, path, AGAIN_AFTER_S if is_repeatable else (), content)
            if answer.is_success:
                return answer
            waited_s += self._wait_or_raise(answer, waited_s)

    def look(self, path: str) -> dict[str, Any]:
        """Return the JSON object that is answered, also with an error; an empty one if there is none."""
        try:
            told = self._http.get(path).json()
        except (httpx.HTTPError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}

    @contextmanager
    def open(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Open an answer that is read as it comes.

        Raises httpx.TransportError if the connection breaks, also that of a proxy to the service.
        """
        waited_s = 0.0
        while True:
            with self._http.stream("GET", path, headers=headers) as answer:
                if answer.is_success:
                    yield answer
                    return
                answer.read()
            if answer.status_code in _AWAY and not _is_problem(answer):
                raise httpx.TransportError(f"a proxy answers {answer.status_code} {answer.reason_phrase}")
            waited_s += self._wait_or_raise(answer, waited_s)

    def read(self, kind: type[View], answer: httpx.Response) -> View:
        """Read an answer's body."""
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError:
            raise self.foreign(answer) from None

    def read_list(self, kind: type[View], answer: httpx.Response) -> list[View]:
        """Read an answer's body that has several of them."""
        try:
            return TypeAdapter(list[kind]).validate_json(answer.content)  # type: ignore[valid-type]
        except ValidationError:
            raise self.foreign(answer) from None

    def unreachable(self, error: httpx.TransportError) -> ServiceUnreachable:
        """Say that the service does not answer, and why."""
        match error:
            case httpx.ConnectTimeout():
                reason = f"no connection within {TIMEOUT.connect:g} s"
            case httpx.TimeoutException():
                reason = f"not a byte in {TIMEOUT.read:g} s"
            case _:
                reason = _PYTHONS_MARKS.sub("", str(error)).lower() or "the connection broke"
        return ServiceUnreachable(f"the service at {self.url} can't be reached: {reason}")

    def foreign(self, answer: httpx.Response) -> ServiceError:
        """Say that an answer is not one of Cesar's."""
        what = f"{answer.status_code} {answer.reason_phrase}".strip()
        hint = "Check that it is the address of `cesar serve`, and look at what stands between."
        return ServiceError(f"{self.url} answered {what}, but not as Cesar does", hint=hint)

    def _send(self, method: str, path: str, pauses: tuple[float, ...], content: dict[str, Any]) -> httpx.Response:
        for pause_s in (*pauses, None):
            try:
                return self._http.request(method, path, **content)
            except httpx.TransportError as error:
                if pause_s is None:
                    raise self.unreachable(error) from error
                self.sleep(pause_s)
        raise AssertionError

    def _wait_or_raise(self, answer: httpx.Response, waited_s: float) -> float:
        """Wait if the service asks for that and it is not too long; else raise the error of an answer."""
        error = self._error_of(answer)
        wait_s = _wait_asked_for(answer)
        if wait_s is None or waited_s + wait_s > LONGEST_WAIT_S:
            raise error
        if self._on_wait is not None:
            self._on_wait(error, wait_s)
        self.sleep(wait_s)
        return wait_s

    def _error_of(self, answer: httpx.Response) -> CesarError:
        try:
            problem = answer.json()
            code, detail, hint = str(problem["code"]), str(problem["detail"]), str(problem["hint"])
        except (ValueError, LookupError, TypeError):
            return self.foreign(answer)
        if code not in BY_CODE:
            return ServiceError(f"{self.url} answered: {detail}")
        kind = BY_CODE[code]
        error = kind(detail, hint=_KEY_HINT if kind is Unauthorised else hint)
        if isinstance(error, ServiceError):
            error.retry_after_s = _wait_asked_for(answer)
        return error


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        address = httpx.URL("")
    if address.scheme not in ("http", "https") or not address.host:
        raise UsageError(f"{url!r} is no address of a service", hint="Write it as http://HOST:PORT.")
    return address


def _token(api_key: str) -> str:
    if not (api_key.isascii() and api_key.isprintable()):
        raise UsageError("the API key has letters that no key has", hint="Check CESAR_API_KEY.")
    return api_key


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_problem(answer: httpx.Response) -> bool:
    return str(answer.headers.get("Content-Type", "")).startswith("application/problem+json")


def _wait_asked_for(answer: httpx.Response) -> float | None:
    """Give the seconds of Retry-After (RFC 9110, 10.2.3), if the answer is one that passes."""
    written = answer.headers.get("Retry-After", "")
    if answer.status_code not in (429, 503) or not written:
        return None
    if written.isascii() and written.isdigit():
        return float(written[:9])
    try:
        return max(0.0, parsedate_to_datetime(written).timestamp() - time.time())
    except ValueError:
        return None
