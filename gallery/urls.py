from django.urls import path

from gallery import serving, views

app_name = "gallery"
urlpatterns = [
    path("gallery", views.gallery, name="gallery"),
    path("gallery/<uuid:public_id>", views.detail, name="detail"),
    path("gallery/<uuid:public_id>/report", views.report, name="report"),
    path("images/<uuid:public_id>/thumbnail.webp", serving.thumbnail, name="thumbnail"),
    path("images/<uuid:public_id>/<int:version>/thumbnail.webp", serving.thumbnail, name="thumbnail"),
    path("images/<uuid:public_id>.<str:extension>", serving.file, name="file"),
    path("images/<uuid:public_id>/<int:version>.<str:extension>", serving.file, name="file"),
    path("o/<slug:slug>/images/", views.own_images, name="own-images"),
]
