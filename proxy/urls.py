from django.urls import path

from proxy import views

app_name = "proxy"
urlpatterns = [
    path("", views.landing, name="landing"),
    path("console/", views.console, name="console"),
    path("o/<slug:slug>/", views.overview, name="overview"),
]
