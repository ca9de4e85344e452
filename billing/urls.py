from django.urls import path

from billing import views

app_name = "billing"
urlpatterns = [
    path("o/<slug:slug>/requests/", views.request_list, name="request-list"),
    path("o/<slug:slug>/requests/<uuid:request_id>/", views.request_detail, name="request-detail"),
    path("o/<slug:slug>/keys/<uuid:key_id>/budgets/", views.key_budgets, name="key-budgets"),
]
