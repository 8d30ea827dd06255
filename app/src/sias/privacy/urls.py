"""Addresses of the rights of persons."""

from django.urls import path

from sias.privacy import views

app_name = "privacy"
urlpatterns = [
    path("rgpd/", views.index, name="index"),
    path("rgpd/registre/", views.register, name="register"),
    path("rgpd/<int:identity>/", views.show, name="show"),
    path("rgpd/<int:identity>/donnees/", views.download, name="download"),
    path("personnes/<int:identity>/droits/", views.receive, name="receive"),
]
