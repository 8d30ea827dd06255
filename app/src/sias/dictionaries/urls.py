"""Addresses of the dictionaries."""

from django.urls import path

from sias.dictionaries import importing, views

app_name = "dictionaries"
urlpatterns = [
    path("dictionnaires/", views.index, name="index"),
    path("dictionnaires/imports/<int:identity>/", importing.show, name="import"),
    path("dictionnaires/imports/<int:identity>/appliquer/", importing.decide, name="decide"),
    path("dictionnaires/imports/<int:identity>/rejets.csv", importing.rejects, name="rejects"),
    path("dictionnaires/<slug:code>/", views.listing, name="list"),
    path("dictionnaires/<slug:code>/export.csv", views.export, name="export"),
    path("dictionnaires/<slug:code>/importer/", importing.upload, name="upload"),
    path("dictionnaires/<slug:code>/nouvelle/", views.edit, name="create"),
    path("dictionnaires/<slug:code>/entree/<str:key>/", views.entry, name="entry"),
    path("dictionnaires/<slug:code>/entree/<str:key>/modifier/", views.edit, name="edit"),
    path("dictionnaires/<slug:code>/entree/<str:key>/fermer/", views.end, name="end"),
]
