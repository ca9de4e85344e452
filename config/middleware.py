"""Middleware of every page: the request id, OpenAI's shape for what fails under `/v1`, and what signing in needs."""

import uuid
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.db import DataError
from django.http import HttpRequest, HttpResponse
from django.middleware.common import CommonMiddleware
from django.shortcuts import render
from django.utils.cache import add_never_cache_headers
from requests import RequestException

from accounts import second_factor
from proxy.api import errors
from proxy.gateway.errors import InvalidRequest
from proxy.gateway.wire import intended

log = structlog.get_logger(__name__)

# The microphone is for Realtime and transcriptions, the clipboard for copying keys, publickey for passkeys.
PERMISSIONS = (
    "camera=(), geolocation=(), payment=(), usb=(), serial=(), hid=(), bluetooth=(), display-capture=(), "
    "microphone=(self), clipboard-write=(self), publickey-credentials-get=(self), publickey-credentials-create=(self)"
)
PROBES = frozenset({"/health", "/ready", "/metrics"})


class RequestIdMiddleware:
    """Give each request an id: in the logs as `request_id`, in the answer as `x-request-id`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = f"req_{uuid.uuid4().hex}"
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self.get_response(request)
        response["x-request-id"] = request_id
        return response


class ApiAnswersMiddleware:
    """Under `/v1`: no page of Django's own leaves as HTML, and rate limits are in the headers."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not f"{intended(request.path)}/".startswith("/v1/"):
            return self.get_response(request)
        try:
            request.get_host()
            response = self.get_response(request)
        except DisallowedHost:
            response = errors.response_of(InvalidRequest("This host name is not served here.", code="unknown_host"))
        is_json = response.get("content-type", "").startswith("application/json")
        if response.status_code >= 400 and not is_json:
            response = errors.response_of(errors.of_status(response.status_code))
        allowance = getattr(request, "allowance", None)
        if allowance is not None:
            for name, value in allowance.headers():
                response[name] = value
        response["cache-control"] = "no-store"
        return response


class PrivatePagesMiddleware:
    """What was made for one person is kept by no cache, not even after signing out; and no page asks for a sensor that
    it does not need."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        has_session = settings.SESSION_COOKIE_NAME in {*request.COOKIES, *response.cookies}
        if has_session and "cookie" in response.get("vary", "").lower() and not response.has_header("cache-control"):
            response["cache-control"] = "private, no-store"
        response.headers.setdefault("permissions-policy", PERMISSIONS)
        return response


class ImpossibleTextMiddleware:
    """A NUL in a text that PostgreSQL is asked for is the client's fault, not ours."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """No such text is in the database, so nothing was changed."""
        if not isinstance(exception, DataError) or errors.NUL not in str(exception):
            return None
        return render(request, "400.html", status=400)


class HostMiddleware(CommonMiddleware):
    """Django's own, which refuses unknown host names; probes and Prometheus come to an address, which has none."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        return None if request.path in PROBES else super().process_request(request)


class StaffSecondFactorMiddleware:
    """The administration is closed to staff who sign in with a password alone, and says what they can do."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        """The page of refusal, or None to go on. Signing out stays open."""
        match = request.resolver_match
        if match is None or match.app_name != "admin" or match.url_name == "logout":
            return None
        if not request.user.is_authenticated or not second_factor.is_missing(request.user):
            return None
        response = render(request, "accounts/second_factor_needed.html", status=403)
        add_never_cache_headers(response)
        return response


class ProviderAwayMiddleware:
    """A provider of sign-in that does not answer is a page that says so, not a server error."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """allauth talks to providers by requests, and only it does."""
        if not isinstance(exception, RequestException):
            return None
        log.warning("sign_in_provider_away", error=type(exception).__name__)
        return render(request, "socialaccount/authentication_error.html", status=503)
