"""Addresses of the Répertoire."""

from django.urls import path

from sias.repertoire import views

app_name = "repertoire"
urlpatterns = [
    path("repertoire/", views.search, name="search"),
    path("personnes/nouvelle/", views.create, name="create"),
    path("personnes/<int:identity>/", views.person, name="person"),
    path("personnes/<int:identity>/modifier/", views.edit, name="edit"),
]
