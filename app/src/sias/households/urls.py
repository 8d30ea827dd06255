"""Addresses of the household file."""

from django.urls import path

from sias.households import views

app_name = "households"
urlpatterns = [
    path("foyers/<int:identity>/", views.file, name="file"),
    path("foyers/<int:identity>/deplacer/", views.move_persons, name="move"),
    path("foyers/<int:identity>/etat/", views.past, name="past"),
    path("foyers/<int:identity>/fiche.pdf", views.download_sheet, name="sheet"),
    path("foyers/<int:identity>/<slug:slug>/", views.file, name="tab"),
    path("foyers/cle/<str:system>/<str:key>/", views.by_key, name="by_key"),
    path("changements/<int:identity>/annuler/", views.undo_move, name="undo_move"),
    path("personnes/<int:identity>/historique/", views.person_history, name="person_history"),
]
