from django.urls import path

from status import views

app_name = "status"
urlpatterns = [
    path("status", views.page, name="page"),
    path("status/history", views.history, name="history"),
    path("status/events", views.events, name="events"),
    path("status/subscribe", views.subscribe, name="subscribe"),
    path("status/confirm/<str:token>", views.confirm, name="confirm"),
    path("status/unsubscribe/<str:token>", views.unsubscribe, name="unsubscribe"),
    path("status/incidents/<str:public_id>", views.incident, name="incident"),
    path("status/badges/<slug:slug>.svg", views.badge, name="badge"),
    path("status.json", views.as_json, name="json"),
    path("status.rss", views.rss, name="rss"),
]
