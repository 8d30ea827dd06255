"""Addresses of duplicates."""

from django.urls import path

from sias.duplicates import views

app_name = "duplicates"
urlpatterns = [
    path("doublons/", views.queue, name="queue"),
    path("doublons/comparer/", views.ask, name="ask"),
    path("doublons/<int:identity>/", views.pair, name="pair"),
    path("doublons/<int:identity>/fusionner/", views.merge, name="merge"),
    path("doublons/<int:identity>/ecarter/", views.dismiss, name="dismiss"),
    path("fusions/", views.merges, name="merges"),
    path("fusions/<int:identity>/annuler/", views.unmerge, name="unmerge"),
]
