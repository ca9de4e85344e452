from django.urls import path

from billing import (
    end_user_views,
    limit_views,
    payment_views,
    report_views,
    request_views,
    transcript_views,
    usage_views,
    views,
)

app_name = "billing"
urlpatterns = [
    path("reports", report_views.reports, name="reports"),
    path("reports/data", report_views.report_data, name="report-data"),
    path("pricing", payment_views.pricing, name="pricing"),
    path("stripe/webhook", payment_views.StripeWebhook.as_view(), name="stripe-webhook"),
    path("o/<slug:slug>/billing/", payment_views.billing, name="billing"),
    path("o/<slug:slug>/billing/buy/", payment_views.buy, name="buy"),
    path("o/<slug:slug>/billing/done/", payment_views.checkout_done, name="checkout-done"),
    path("o/<slug:slug>/billing/portal/", payment_views.portal, name="portal"),
    path("o/<slug:slug>/billing/transfers/", payment_views.transfer_list, name="transfers"),
    path("o/<slug:slug>/billing/statements/<str:month>/", payment_views.statement, name="statement"),
    path(
        "o/<slug:slug>/billing/statements/<str:month>.<str:extension>", payment_views.statement, name="statement-file"
    ),
    path("o/<slug:slug>/requests/", request_views.request_list, name="request-list"),
    path("o/<slug:slug>/requests/export.csv", request_views.request_file, name="request-file"),
    path("o/<slug:slug>/requests/views/create/", request_views.view_create, name="view-create"),
    path("o/<slug:slug>/requests/views/<uuid:view_id>/delete/", request_views.view_delete, name="view-delete"),
    path("o/<slug:slug>/requests/words/", transcript_views.transcript_settings, name="transcript-settings"),
    path("o/<slug:slug>/requests/words/delete/", transcript_views.transcripts_delete, name="transcripts-delete"),
    path("o/<slug:slug>/requests/<uuid:request_id>/words/", transcript_views.transcript, name="transcript"),
    path("o/<slug:slug>/requests/<uuid:request_id>/", views.request_detail, name="request-detail"),
    path("o/<slug:slug>/usage/", usage_views.usage, name="usage"),
    path("o/<slug:slug>/usage/end-users/", usage_views.usage_end_users, name="usage-end-users"),
    path("o/<slug:slug>/usage/days.csv", usage_views.usage_file, name="usage-file"),
    path("o/<slug:slug>/keys/<uuid:key_id>/budgets/", views.key_budgets, name="key-budgets"),
    path("o/<slug:slug>/limits/", limit_views.limits, name="limits"),
    path("o/<slug:slug>/end-users/", end_user_views.end_user_list, name="end-user-list"),
    path("o/<slug:slug>/end-users/budgets/", end_user_views.end_user_budgets, name="end-user-budgets"),
    path("o/<slug:slug>/end-users/block/", end_user_views.end_user_block, name="end-user-block"),
    path("o/<slug:slug>/end-users/unblock/", end_user_views.end_user_unblock, name="end-user-unblock"),
]
