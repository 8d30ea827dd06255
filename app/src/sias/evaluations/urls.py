"""Addresses of evaluations."""

from django.urls import path

from sias.evaluations import views

app_name = "evaluations"
urlpatterns = [
    path("foyers/<int:identity>/situation/reponses/", views.save_situation, name="save_situation"),
    path("foyers/<int:identity>/evaluations/nouvelle/", views.begin, name="begin"),
    path("foyers/<int:identity>/evaluations/comparer/", views.compare, name="compare"),
    path("evaluations/<int:identity>/", views.evaluation, name="evaluation"),
    path("evaluations/<int:identity>/reponses/", views.save, name="save"),
    path("evaluations/<int:identity>/clore/", views.close, name="close"),
]
