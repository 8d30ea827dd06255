"""Addresses of notes."""

from django.urls import path

from sias.notes import drafts, views

app_name = "notes"
urlpatterns = [
    path("foyers/<int:identity>/notes/nouvelle/", views.create, name="create"),
    path("foyers/<int:identity>/notes/brouillon/", drafts.keep, name="draft"),
    path("notes/<int:identity>/modifier/", views.edit, name="edit"),
    path("notes/<int:identity>/retirer/", views.withdraw, name="withdraw"),
]
