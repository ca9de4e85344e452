from django.urls import path

from proxy import own_model_views, realtime_views, upstream_key_views, views

app_name = "proxy"
urlpatterns = [
    path("", views.landing, name="landing"),
    path("console/", views.console, name="console"),
    path("o/<slug:slug>/models/", own_model_views.own_models_page, name="models"),
    path("o/<slug:slug>/upstream-keys/", upstream_key_views.upstream_keys, name="upstream-keys"),
    path("o/<slug:slug>/upstream-keys/<slug:provider>/remove/", upstream_key_views.remove, name="upstream-key-remove"),
    path("o/<slug:slug>/sessions/", realtime_views.session_list, name="sessions"),
    path("o/<slug:slug>/sessions/<uuid:session_id>/end/", realtime_views.session_end, name="session-end"),
    path("o/<slug:slug>/playground/realtime/", realtime_views.realtime_playground, name="realtime-playground"),
    path("o/<slug:slug>/playground/realtime/secret", realtime_views.realtime_secret, name="realtime-secret"),
    path("o/<slug:slug>/", views.overview, name="overview"),
]
