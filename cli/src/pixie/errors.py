"""What can go wrong: what happened, what to do about it, and the exit code that scripts may rely on."""

from enum import IntEnum
from typing import Any

import httpx

MAX_TOLD = 500


class ExitCode(IntEnum):
    """Stable: documented in docs/pixie.md, and never given another meaning."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SIGNED_OUT = 3
    FORBIDDEN = 4
    NOT_FOUND = 5
    NO_CREDIT = 6
    RATE_LIMITED = 7
    UNAVAILABLE = 8
    CHECK_FAILED = 9
    TIMED_OUT = 10
    INTERRUPTED = 130


class PixieError(Exception):
    """A failure that is told to the user: `what` happened and what to `do`. `code` is the API's own word for it."""

    def __init__(
        self,
        what: str,
        do: str = "",
        *,
        exit_code: ExitCode = ExitCode.FAILED,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.do = do
        self.exit_code = exit_code
        self.code = code
        self.request_id = request_id

    def as_dict(self) -> dict[str, Any]:
        return {
            "error": {
                "what": self.what,
                "do": self.do or None,
                "code": self.code,
                "request_id": self.request_id,
                "exit_code": int(self.exit_code),
            }
        }


class UsageError(PixieError):
    """The command line makes no sense as it stands."""

    def __init__(self, what: str, do: str = "") -> None:
        super().__init__(what, do, exit_code=ExitCode.USAGE)


class SignedOut(PixieError):
    """Nobody is signed in, or no longer."""

    def __init__(self, what: str, *, request_id: str | None = None, code: str | None = None) -> None:
        do = "Sign in with `pixie auth login`, or set PIXIE_API_KEY to a key of yours."
        super().__init__(what, do, exit_code=ExitCode.SIGNED_OUT, request_id=request_id, code=code)


def from_answer(answer: httpx.Response) -> PixieError:
    """The error that an answer of 4xx or 5xx tells of; its body has been read."""
    told = _told(answer)
    if told is None:
        return not_the_api(answer)
    return from_body(told, answer.status_code, answer.headers)


def from_body(told: dict[str, Any], status: int, headers: httpx.Headers | None = None) -> PixieError:
    """The error of an API body's `error` object with the status that it came with."""
    headers = headers or httpx.Headers()
    code = str(told.get("code") or told.get("type") or "") or None
    what = str(told.get("message") or f"The server answered HTTP {status}.")[:MAX_TOLD]
    request_id = headers.get("x-request-id")
    if status == 401:
        return SignedOut(what, request_id=request_id, code=code)
    exit_code, do = _advice(status, code or "", headers)
    return PixieError(what, do, exit_code=exit_code, code=code, request_id=request_id)


def not_the_api(answer: httpx.Response) -> PixieError:
    """An answer that is not the API's: a proxy's page, or another server."""
    kind = answer.headers.get("content-type", "nothing").partition(";")[0]
    is_failing = answer.status_code >= 500
    return PixieError(
        f"{_origin(answer)} answered HTTP {answer.status_code} with {kind}, which is not this API.",
        "Try again in a minute." if is_failing else "Check the address: --api-url, PIXIE_API_URL or the profile's.",
        exit_code=ExitCode.UNAVAILABLE if is_failing else ExitCode.FAILED,
        request_id=answer.headers.get("x-request-id"),
    )


def unreachable(url: str, error: httpx.HTTPError) -> PixieError:
    """No answer came at all."""
    origin = _root(httpx.URL(url))
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return PixieError(
            f"{origin} did not answer in time.",
            "Try again, or wait longer with PIXIE_TIMEOUT=SECONDS.",
            exit_code=ExitCode.UNAVAILABLE,
        )
    return PixieError(
        f"{origin} cannot be reached: {str(error) or type(error).__name__}.",
        "Check your network and the address: --api-url, PIXIE_API_URL or the profile's.",
        exit_code=ExitCode.UNAVAILABLE,
    )


def _told(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        body = answer.json()
    except ValueError:
        return None
    told = body.get("error") if isinstance(body, dict) else None
    if isinstance(told, str):  # OAuth's shape, RFC 6749
        return {"code": told, "message": body.get("error_description") or told}
    return told if isinstance(told, dict) else None


def _advice(status: int, code: str, headers: httpx.Headers) -> tuple[ExitCode, str]:  # noqa: PLR0911 - one line each
    if code == "budget_exceeded":
        return ExitCode.NO_CREDIT, "Wait until it resets, or raise the budget on the console's limits page."
    if code in {"insufficient_quota", "credit_balance_exhausted"} or status == 402:
        url = headers.get("x-top-up-url", "")
        return ExitCode.NO_CREDIT, "Buy credit with `pixie credits buy`" + (f", or at {url}" if url else "") + "."
    if status == 429:
        return ExitCode.RATE_LIMITED, "Wait a moment and try again; `pixie usage` shows what the key does."
    if code == "scope_missing":
        return ExitCode.FORBIDDEN, "Create a key with that scope: `pixie keys create NAME --scope SCOPE`."
    if status == 403:
        return ExitCode.FORBIDDEN, "Use a key or an account that may, or ask an admin of your organization."
    if code == "model_not_found":
        return ExitCode.NOT_FOUND, "`pixie models` lists what there is."
    if code == "unknown_url":
        return ExitCode.NOT_FOUND, "This server does not have it: it sells no credit, or is older than this pixie."
    if status == 404:
        return ExitCode.NOT_FOUND, ""
    if status >= 500:
        return ExitCode.UNAVAILABLE, "Try again in a minute; `pixie health` shows how the server is."
    return ExitCode.FAILED, ""


def _origin(answer: httpx.Response) -> str:
    return _root(answer.request.url)


def _root(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
