"""Addresses of the box."""

from django.urls import path

from sias.tasks import views

app_name = "tasks"
urlpatterns = [
    path("taches/", views.inbox, name="inbox"),
    path("taches/<int:identity>/", views.task, name="task"),
    path("taches/<int:identity>/action/", views.act, name="act"),
    path("taches/absences/", views.absences, name="absences"),
    path("taches/absences/<int:identity>/effacer/", views.end_absence, name="end_absence"),
]
