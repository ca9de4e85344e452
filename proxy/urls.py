from django.urls import path

from proxy import (
    catalogue_views,
    guide_views,
    own_model_views,
    page_texts,
    realtime_views,
    reference_views,
    upstream_key_views,
    views,
)

app_name = "proxy"
urlpatterns = [
    path("", views.landing, name="landing"),
    path("console/", views.console, name="console"),
    path("models", catalogue_views.catalogue, name="catalogue"),
    path("models/compare", catalogue_views.compare, name="compare"),
    path("models/<path:name>", catalogue_views.model, name="model"),
    path("guides/", guide_views.guides, name="guides"),
    path("guides/<slug:slug>", guide_views.guide, name="guide"),
    path("docs", reference_views.docs, name="docs"),
    path("redoc", reference_views.redoc, name="redoc"),
    path("changelog", page_texts.changelog, name="changelog"),
    path("terms", page_texts.legal, {"page": "terms"}, name="terms"),
    path("privacy", page_texts.legal, {"page": "privacy"}, name="privacy"),
    path("imprint", page_texts.legal, {"page": "imprint"}, name="imprint"),
    path("o/<slug:slug>/models/", own_model_views.own_models_page, name="models"),
    path("o/<slug:slug>/upstream-keys/", upstream_key_views.upstream_keys, name="upstream-keys"),
    path("o/<slug:slug>/upstream-keys/<slug:provider>/remove/", upstream_key_views.remove, name="upstream-key-remove"),
    path("o/<slug:slug>/sessions/", realtime_views.session_list, name="sessions"),
    path("o/<slug:slug>/sessions/<uuid:session_id>/end/", realtime_views.session_end, name="session-end"),
    path("o/<slug:slug>/playground/realtime/", realtime_views.realtime_playground, name="realtime-playground"),
    path("o/<slug:slug>/playground/realtime/secret", realtime_views.realtime_secret, name="realtime-secret"),
    path("o/<slug:slug>/", views.overview, name="overview"),
]
