from django.urls import path

from accounts import device_views, self_service_views, settings_views, views

app_name = "accounts"
urlpatterns = [
    path("account/", settings_views.settings, name="settings"),
    path("account/programs/<uuid:session_id>/end/", settings_views.session_end, name="session-end"),
    path("device", device_views.device, name="device"),
    path("request-key", self_service_views.request_key, name="request-key"),
    path("o/<slug:slug>/keys/", views.key_list, name="key-list"),
    path("o/<slug:slug>/keys/create/", views.key_create, name="key-create"),
    path("o/<slug:slug>/keys/<uuid:key_id>/revoke/", views.key_revoke, name="key-revoke"),
    path("o/<slug:slug>/keys/<uuid:key_id>/rotate/", views.key_rotate, name="key-rotate"),
]
