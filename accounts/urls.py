from django.urls import path

from accounts import (
    audit_views,
    device_views,
    organization_views,
    self_service_views,
    settings_views,
    team_views,
    views,
    webhook_views,
)

app_name = "accounts"
urlpatterns = [
    path("account/", settings_views.settings, name="settings"),
    path("account/programs/<uuid:session_id>/end/", settings_views.session_end, name="session-end"),
    path("device", device_views.device, name="device"),
    path("request-key", self_service_views.request_key, name="request-key"),
from accounts import impersonation_views, views

app_name = "accounts"
urlpatterns = [
    path("impersonation/end/", impersonation_views.impersonation_end, name="impersonation-end"),
    path("o/<slug:slug>/keys/", views.key_list, name="key-list"),
    path("o/<slug:slug>/keys/create/", views.key_create, name="key-create"),
    path("o/<slug:slug>/keys/<uuid:key_id>/revoke/", views.key_revoke, name="key-revoke"),
    path("o/<slug:slug>/keys/<uuid:key_id>/rotate/", views.key_rotate, name="key-rotate"),
    path("o/new/", organization_views.organization_create, name="organization-create"),
    path("o/<slug:slug>/settings/", organization_views.organization_settings, name="organization-settings"),
    path("o/<slug:slug>/settings/delete/", organization_views.organization_delete, name="organization-delete"),
    path("o/<slug:slug>/settings/restore/", organization_views.organization_restore, name="organization-restore"),
    path("o/<slug:slug>/settings/exports/", organization_views.export_list, name="export-list"),
    path(
        "o/<slug:slug>/settings/exports/<uuid:export_id>.zip",
        organization_views.export_download,
        name="export-download",
    ),
    path("o/<slug:slug>/team/", team_views.team, name="team"),
    path("o/<slug:slug>/team/leave/", team_views.leave, name="leave"),
    path("o/<slug:slug>/team/<uuid:member_id>/role/", team_views.member_role, name="member-role"),
    path("o/<slug:slug>/team/<uuid:member_id>/remove/", team_views.member_remove, name="member-remove"),
    path("o/<slug:slug>/team/<uuid:member_id>/ownership/", team_views.ownership, name="ownership"),
    path(
        "o/<slug:slug>/team/invitations/<uuid:invitation_id>/resend/",
        team_views.invitation_resend,
        name="invitation-resend",
    ),
    path(
        "o/<slug:slug>/team/invitations/<uuid:invitation_id>/revoke/",
        team_views.invitation_revoke,
        name="invitation-revoke",
    ),
    path("invitations/<str:token>/", team_views.invitation, name="invitation"),
    path("o/<slug:slug>/audit/", audit_views.audit_page, name="audit"),
    path("o/<slug:slug>/audit.csv", audit_views.audit_csv, name="audit-csv"),
    path("o/<slug:slug>/webhooks/", webhook_views.webhook_list, name="webhook-list"),
    path("o/<slug:slug>/webhooks/create/", webhook_views.webhook_create, name="webhook-create"),
    path("o/<slug:slug>/webhooks/<uuid:webhook_id>/", webhook_views.webhook, name="webhook"),
    path("o/<slug:slug>/webhooks/<uuid:webhook_id>/rotate/", webhook_views.webhook_rotate, name="webhook-rotate"),
    path("o/<slug:slug>/webhooks/<uuid:webhook_id>/remove/", webhook_views.webhook_remove, name="webhook-remove"),
    path("o/<slug:slug>/webhooks/<uuid:webhook_id>/test/", webhook_views.webhook_test, name="webhook-test"),
    path("o/<slug:slug>/webhooks/<uuid:webhook_id>/replay/", webhook_views.webhook_replay, name="webhook-replay"),
    path(
        "o/<slug:slug>/webhooks/<uuid:webhook_id>/deliveries/<uuid:delivery_id>/",
        webhook_views.delivery,
        name="delivery",
    ),
]
