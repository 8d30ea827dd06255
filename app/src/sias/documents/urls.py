"""Addresses of documents."""

from django.urls import path

from sias.documents import views

app_name = "documents"
urlpatterns = [
    path("personnes/<int:identity>/documents/", views.attach, name="attach"),
    path("documents/<uuid:identity>/", views.download, name="download"),
]
