"""Every error of the management API in OpenAI's shape: what REST framework, Django and PostgreSQL raise, translated."""

from typing import Any

import structlog
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, DataError, InterfaceError
from django.http import Http404, HttpResponse, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

from proxy.gateway.errors import (
    Forbidden,
    GatewayError,
    InvalidJson,
    InvalidRequest,
    MethodNotAllowed,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)

# How PostgreSQL's driver refuses a text: it is the client's fault, and trying again does not help.
NUL = "NUL (0x00)"

log = structlog.get_logger(__name__)

NO_KEY = "You didn't provide an API key. Send it in the Authorization header: 'Authorization: Bearer YOUR_KEY'."


class NotFound(GatewayError):
    """No such object, or one of another organization."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class TooManyAttempts(GatewayError):
    """allauth's limits of an address or an account bind."""

    status = 429
    type = "requests"
    code = "too_many_attempts"
    headers = (("retry-after", "60"),)

    def __init__(self, message: str = "Too many attempts. Wait some minutes, or reset your password.") -> None:
        super().__init__(message)


class Conflict(GatewayError):
    """The object is not in the state that this needs."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"
    headers = (("x-should-retry", "false"),)


def handle(error: Exception, context: dict[str, Any]) -> Response:
    """REST framework's `EXCEPTION_HANDLER`: never None, so never Django's own page."""
    request = context["request"]
    translated = translate(error, method=request.method, allowed=context["view"].allowed_methods)
    return Response(
        {"error": translated.as_dict()}, status=translated.status, headers=dict(translated.headers)
    )  # fmt: skip


def translate(error: Exception, *, method: str = "", allowed: list[str] | None = None) -> GatewayError:  # noqa: PLR0911 - one line per kind
    """The error that says the same in OpenAI's shape. What nobody expected is logged and told as a 500."""
    match error:
        case GatewayError():
            return error
        case exceptions.ValidationError():
            return _invalid(error.detail)
        case exceptions.ParseError():
            return InvalidJson(str(error.detail))
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            return Unauthenticated(NO_KEY)
        case exceptions.PermissionDenied() | PermissionDenied():
            return Forbidden("This API key may not do that.")
        case exceptions.NotFound() | Http404():
            return NotFound("There is no such object.")
        case exceptions.MethodNotAllowed():
            return MethodNotAllowed(method, ", ".join(allowed or ()))
        case exceptions.UnsupportedMediaType():
            return UnsupportedMediaType("application/json")
        case DataError() if NUL in str(error):
            return InvalidRequest("No text may have the character U+0000 in it.")
        case DatabaseError() | InterfaceError():
            log.error("api_database_error", error=type(error).__name__)
            return Unavailable()
        case exceptions.APIException():
            return of_status(error.status_code)
    log.exception("api_failed", exc_info=error)
    return GatewayError("The server had an error. Please retry.")


def of_status(status: int) -> GatewayError:
    """The error that stands for a page of Django's own with `status`."""
    if status == NotFound.status:
        return NotFound("Unknown request URL. Please check the URL for typos.", code="unknown_url")
    if status == Forbidden.status:
        return Forbidden("This request is not allowed.")
    error = GatewayError("The server had an error. Please retry.") if status >= 500 else InvalidRequest("Bad request.")
    error.status = status
    return error


def response_of(error: GatewayError) -> HttpResponse:
    """`error` as an answer outside of REST framework."""
    return JsonResponse({"error": error.as_dict()}, status=error.status, headers=dict(error.headers))


def _invalid(detail: Any, path: str = "") -> InvalidRequest:
    """The first problem that a serializer found, with the field's path as `param`."""
    while True:
        if isinstance(detail, dict) and detail:
            name, detail = next(iter(detail.items()))
            if name != "non_field_errors":
                path = f"{path}.{name}" if path else str(name)
        elif isinstance(detail, list) and detail:
            detail = next((item for item in detail if item), "is not valid.")
        else:
            break
    message = f"'{path}': {detail}" if path else str(detail)
    return InvalidRequest(message, param=path or None)
