from django.urls import path, re_path

from proxy.api import own_key, unknown

app_name = "api"
urlpatterns = [
    path("key", own_key.own_key, name="key"),
    re_path("^.*$", unknown.unknown, name="unknown"),
]
