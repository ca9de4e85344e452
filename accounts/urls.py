from django.urls import path

from accounts import impersonation_views, views

app_name = "accounts"
urlpatterns = [
    path("impersonation/end/", impersonation_views.impersonation_end, name="impersonation-end"),
    path("o/<slug:slug>/keys/", views.key_list, name="key-list"),
    path("o/<slug:slug>/keys/create/", views.key_create, name="key-create"),
    path("o/<slug:slug>/keys/<uuid:key_id>/revoke/", views.key_revoke, name="key-revoke"),
    path("o/<slug:slug>/keys/<uuid:key_id>/rotate/", views.key_rotate, name="key-rotate"),
]
