from django.urls import path

from proxy import own_model_views, upstream_key_views, views

app_name = "proxy"
urlpatterns = [
    path("", views.landing, name="landing"),
    path("console/", views.console, name="console"),
    path("o/<slug:slug>/models/", own_model_views.own_models_page, name="models"),
    path("o/<slug:slug>/upstream-keys/", upstream_key_views.upstream_keys, name="upstream-keys"),
    path("o/<slug:slug>/upstream-keys/<slug:provider>/remove/", upstream_key_views.remove, name="upstream-key-remove"),
    path("o/<slug:slug>/", views.overview, name="overview"),
]
