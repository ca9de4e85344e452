"""Middleware of every page: the request id."""

import uuid
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse


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
