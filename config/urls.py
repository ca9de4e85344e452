"""Every URL of the pages and of the management API. The metered `/v1` is not here: `config/asgi.py` sends it to the
gateway."""

from django.contrib import admin
from django.urls import include, path

from config import health
from config.metrics import metrics
from proxy.api import receipts
from proxy.api.unknown import unknown

urlpatterns = [
    path("health", health.health, name="health"),
    path("ready", health.ready, name="ready"),
    path("metrics", metrics, name="metrics"),
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
    path("v1", unknown),
    path("v1/", include("proxy.api.urls")),
    path(".well-known/receipt-keys.json", receipts.keys, name="receipt-keys"),
    path("", include("accounts.urls")),
    path("", include("billing.urls")),
    path("", include("gallery.urls")),
    path("", include("proxy.urls")),
    path("", include("status.urls")),
]
