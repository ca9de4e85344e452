"""The API reference: the description itself, and Swagger UI and Redoc from our own static files."""

from copy import copy

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.csp import CSP
from django.views.decorators.csp import csp_override
from django.views.decorators.http import require_safe

from proxy.openapi.description import described

# Redoc makes its own <style> elements: two before it knows this page's nonce (an empty one, and its scroll bar's), the
# others with it. It searches in a worker made from a blob.
_REDOC_STYLES = [
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='",
    "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='",
]
_REDOC_POLICY = settings.SECURE_CSP | {
    "style-src": [CSP.SELF, CSP.NONCE, *_REDOC_STYLES],
    "worker-src": ["blob:"],
}


@require_safe
def openapi(request: HttpRequest) -> JsonResponse:
    """The description, for generators and tools; the server is where it was asked for."""
    made = copy(described())
    made["servers"] = [{"url": request.build_absolute_uri("/").rstrip("/")}]
    answer = JsonResponse(made)
    answer["access-control-allow-origin"] = "*"
    return answer


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    return render(request, "proxy/reference/swagger.html")


@require_safe
@csp_override(_REDOC_POLICY)
def redoc(request: HttpRequest) -> HttpResponse:
    return render(request, "proxy/reference/redoc.html")
