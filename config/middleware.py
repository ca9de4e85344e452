"""Middleware of every page: the request id, and OpenAI's shape for whatever fails under `/v1`."""

import uuid
from collections.abc import Callable

import structlog
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse

from proxy.api import errors
from proxy.gateway.errors import InvalidRequest


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
        if not request.path.startswith("/v1/"):
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
