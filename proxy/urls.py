from django.urls import path

from proxy import (
    own_model_views,
    playground_media_views,
    playground_views,
    realtime_views,
    upstream_key_views,
    views,
)

app_name = "proxy"
PLAYGROUND = "o/<slug:slug>/playground/"
CONVERSATION = f"{PLAYGROUND}c/<uuid:conversation_id>/"
urlpatterns = [
    path("", views.landing, name="landing"),
    path("console/", views.console, name="console"),
    path("o/<slug:slug>/models/", own_model_views.own_models_page, name="models"),
    path("o/<slug:slug>/upstream-keys/", upstream_key_views.upstream_keys, name="upstream-keys"),
    path("o/<slug:slug>/upstream-keys/<slug:provider>/remove/", upstream_key_views.remove, name="upstream-key-remove"),
    path("o/<slug:slug>/sessions/", realtime_views.session_list, name="sessions"),
    path("o/<slug:slug>/sessions/<uuid:session_id>/end/", realtime_views.session_end, name="session-end"),
    path("playground/images/", playground_media_views.mine, name="playground-mine"),
    path(PLAYGROUND, playground_views.chat, name="playground"),
    path(f"{PLAYGROUND}pass", playground_views.pass_, name="playground-pass"),
    path(f"{PLAYGROUND}cost/<str:request_id>", playground_views.cost, name="playground-cost"),
    path(f"{PLAYGROUND}c/", playground_views.start, name="conversation-start"),
    path(CONVERSATION, playground_views.chat, name="conversation"),
    path(f"{CONVERSATION}messages", playground_views.say, name="conversation-say"),
    path(f"{CONVERSATION}rename/", playground_views.rename, name="conversation-rename"),
    path(f"{CONVERSATION}fork/", playground_views.fork, name="conversation-fork"),
    path(f"{CONVERSATION}delete/", playground_views.delete, name="conversation-delete"),
    path(f"{CONVERSATION}export.json", playground_views.export, {"kind": "json"}, name="conversation-json"),
    path(f"{CONVERSATION}export.md", playground_views.export, {"kind": "md"}, name="conversation-markdown"),
    path(f"{PLAYGROUND}images/", playground_media_views.images, name="playground-images"),
    path(f"{PLAYGROUND}transcription/", playground_media_views.transcription, name="playground-transcription"),
    path(f"{PLAYGROUND}speech/", playground_media_views.speech, name="playground-speech"),
    path(f"{PLAYGROUND}realtime/", realtime_views.realtime_playground, name="realtime-playground"),
    path(f"{PLAYGROUND}realtime/secret", realtime_views.realtime_secret, name="realtime-secret"),
    path("o/<slug:slug>/", views.overview, name="overview"),
]
