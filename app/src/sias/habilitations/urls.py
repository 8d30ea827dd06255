"""Addresses of rights."""

from django.urls import path

from sias.habilitations import views

app_name = "habilitations"
urlpatterns = [
    path("personnes/<int:identity>/acces-exceptionnel/", views.open_exceptional, name="open_exceptional"),
]
