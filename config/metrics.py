"""`/metrics` for Prometheus. With several workers set PROMETHEUS_MULTIPROC_DIR: then their figures are summed."""

import hmac
import os

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

import proxy.gateway.metrics  # noqa: F401 - registers the figures, also where no gateway runs


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """The figures of this process or of all; with METRICS_TOKEN set only for `Authorization: Bearer` of it."""
    if settings.METRICS_TOKEN:
        expected = f"Bearer {settings.METRICS_TOKEN}".encode()
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            return HttpResponse("wrong or missing token\n", status=401, content_type="text/plain")
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
