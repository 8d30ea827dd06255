"""Addresses of the reception."""

from django.urls import path

from sias.reception import views

app_name = "reception"
urlpatterns = [
    path("accueil/", views.desk, name="desk"),
    path("accueil/rendez-vous/<int:identity>/", views.outcome, name="outcome"),
    path("accueil/orientations/<int:identity>/", views.answer, name="answer"),
    path("personnes/<int:identity>/contact/", views.contact, name="contact"),
    path("personnes/<int:identity>/rendez-vous/", views.appointment, name="appointment"),
    path("personnes/<int:identity>/orienter/", views.referral, name="referral"),
    path("personnes/<int:identity>/chronologie/", views.timeline, name="timeline"),
]
