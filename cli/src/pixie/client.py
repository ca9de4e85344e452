"""HTTP as OpenAI's SDK does it: two retries of what may pass, waiting as long as the server asks."""

import email.utils
import os
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from pixie import __version__, errors
from pixie.access import Access, Who
from pixie.errors import PixieError, UsageError

MAX_RETRIES = 2
CONNECT_S, ANSWER_S, WORK_S = 10.0, 60.0, 600.0
FIRST_PAUSE_S, MAX_PAUSE_S = 0.5, 8.0
# A server that asks for more wants nobody to wait: the SDK does not try again either.
MAX_ASKED_PAUSE_S = 120.0
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart body; its boundary stays the same when it is sent again, so that it is the same body."""

    fields: Mapping[str, str]
    files: list[tuple[str, tuple[str, bytes, str]]]
    boundary: str = field(default_factory=lambda: secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as often as it is sent."""

    method: str
    path: str
    who: Who = Who.KEY
    body: Any = None
    form: Form | None = None
    params: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    answer_s: float = ANSWER_S

    @property
    def is_repeatable(self) -> bool:
        """Whether doing it twice is doing it once."""
        return self.method in _REPEATABLE or "Idempotency-Key" in self.headers


class Client:
    """The API of one server. `on_wait` is told the seconds and why before each retry."""

    def __init__(
        self, base_url: str, access: Access | None, *, on_wait: Callable[[float, str], None] | None = None
    ) -> None:
        self.base_url = base_url
        self._access = access
        self._on_wait = on_wait
        self._retries = _number("PIXIE_MAX_RETRIES", MAX_RETRIES)
        self._http = httpx.Client(
            base_url=base_url,
            headers={"User-Agent": f"pixie/{__version__} Python/{sys.version_info[0]}.{sys.version_info[1]}"},
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **options: Any) -> Any:
        return self.json("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.json("POST", path, body=body if body is not None else {}, **options)

    def json(self, method: str, path: str, **options: Any) -> Any:
        """The answer's JSON. Raises `PixieError` for every other answer."""
        return parsed(self.ask(method, path, **options))

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The whole answer, which is a 2xx. Raises `PixieError`."""
        with self.stream(method, path, **options) as answer:
            try:
                answer.read()
            except httpx.HTTPError as error:
                raise errors.unreachable(self.base_url, error) from None
        return answer

    @contextmanager
    def stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """An answer of 2xx whose body has not been read. Raises `PixieError`."""
        call = Call(method, path, **{name: value for name, value in options.items() if value is not None})
        answer = self._send(call)
        try:
            if not answer.is_success:
                answer.read()
                raise _refusal(answer, call)
            yield answer
        except httpx.HTTPError as error:
            raise errors.unreachable(self.base_url, error) from None
        finally:
            answer.close()

    def _send(self, call: Call) -> httpx.Response:
        """The first answer that is worth showing."""
        renewed = False
        for attempt in range(self._retries + 1):
            is_last = attempt == self._retries
            headers = self._access.headers(call.who) if self._access is not None else {}
            try:
                answer = self._http.send(self._request(call, headers, attempt), stream=True)
            except httpx.HTTPError as error:
                if is_last or not (call.is_repeatable or isinstance(error, _NOT_SENT)):
                    raise errors.unreachable(self.base_url, error) from None
                self._wait(_pause(attempt), "no connection")
                continue
            if answer.status_code == 401 and not renewed and self._access and self._access.renew(headers):
                renewed = True
                answer.close()
                answer = self._http.send(self._request(call, self._access.headers(call.who), attempt), stream=True)
            pause = None if is_last else pause_before_retry(answer, attempt)
            if pause is None:
                return answer
            answer.close()
            self._wait(pause, f"HTTP {answer.status_code}")
        raise AssertionError("unreachable")

    def _request(self, call: Call, credentials: Mapping[str, str], attempt: int) -> httpx.Request:
        limit = _number("PIXIE_TIMEOUT", 0) or call.answer_s
        headers = {**call.headers, **credentials}
        if attempt:
            headers["x-stainless-retry-count"] = str(attempt)
        options: dict[str, Any] = {"timeout": httpx.Timeout(limit, connect=CONNECT_S)}
        if call.form is not None:
            headers["Content-Type"] = f"multipart/form-data; boundary={call.form.boundary}"
            options |= {"data": dict(call.form.fields), "files": call.form.files}
        elif call.body is not None:
            options["json"] = call.body
        return self._http.build_request(call.method, call.path, params=call.params, headers=headers, **options)

    def _wait(self, pause_s: float, why: str) -> None:
        if self._on_wait is not None:
            self._on_wait(pause_s, why)
        time.sleep(pause_s)


def parsed(answer: httpx.Response) -> Any:
    """The JSON of an answer. Raises `PixieError` where it is none."""
    if answer.status_code == 204:
        return {}
    try:
        return answer.json()
    except ValueError:
        raise errors.not_the_api(answer) from None


def pause_before_retry(answer: httpx.Response, attempt: int) -> float | None:
    """How long to wait before the next attempt; None where there shall be none."""
    should = answer.headers.get("x-should-retry", "").lower()
    status = answer.status_code
    if should == "false" or (should != "true" and status not in {408, 409, 429} and status < 500):
        return None
    asked = _asked(answer.headers)
    if asked is None or asked <= 0:
        return _pause(attempt)
    return asked if asked <= MAX_ASKED_PAUSE_S else None


def _asked(headers: httpx.Headers) -> float | None:
    """The seconds that the server asks to wait: in milliseconds, seconds, or as a date (RFC 9110, section 10.2.3)."""
    try:
        return float(headers["retry-after-ms"]) / 1000
    except (KeyError, ValueError):
        pass
    value = headers.get("retry-after", "")
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (TypeError, ValueError):
        return None


def _pause(attempt: int) -> float:
    return min(FIRST_PAUSE_S * 2.0**attempt, MAX_PAUSE_S) * random.uniform(0.75, 1)  # noqa: S311 - no secret


def _refusal(answer: httpx.Response, call: Call) -> PixieError:
    if answer.is_redirect:
        goal = answer.headers.get("location", "elsewhere")
        return PixieError(f"The server sends us to {goal}.", "Give the address where it really is with --api-url.")
    error = errors.from_answer(answer)
    if call.who is Who.PERSON and error.exit_code is errors.ExitCode.SIGNED_OUT:
        error.do = "Sign in with `pixie auth login`: this is for people, and a key is not enough."
    return error


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"{name} is {text!r}, expected a number.")
    return int(text)
