from django.urls import path

from billing import end_user_views, limit_views, views

app_name = "billing"
urlpatterns = [
    path("o/<slug:slug>/requests/", views.request_list, name="request-list"),
    path("o/<slug:slug>/requests/<uuid:request_id>/", views.request_detail, name="request-detail"),
    path("o/<slug:slug>/keys/<uuid:key_id>/budgets/", views.key_budgets, name="key-budgets"),
    path("o/<slug:slug>/limits/", limit_views.limits, name="limits"),
    path("o/<slug:slug>/end-users/", end_user_views.end_user_list, name="end-user-list"),
    path("o/<slug:slug>/end-users/budgets/", end_user_views.end_user_budgets, name="end-user-budgets"),
    path("o/<slug:slug>/end-users/block/", end_user_views.end_user_block, name="end-user-block"),
    path("o/<slug:slug>/end-users/unblock/", end_user_views.end_user_unblock, name="end-user-unblock"),
]
