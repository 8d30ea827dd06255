"""Addresses of control."""

from django.urls import path

from sias.controle import confidential, views

app_name = "controle"
urlpatterns = [
    path("habilitations/", views.assignments, name="assignments"),
    path("habilitations/table/", views.table_page, name="table"),
    path("habilitations/nouvelle/", views.ask, name="ask"),
    path("habilitations/<int:identity>/valider/", views.validate, name="validate"),
    path("habilitations/<int:identity>/revoir/", views.review, name="review"),
    path("acces-exceptionnels/", views.exceptional, name="exceptional"),
    path("acces-exceptionnels/<int:identity>/", views.examine, name="examine"),
    path("personnes/<int:identity>/confidentialite/", confidential.confidentiality, name="confidentiality"),
    path("journal/", views.log, name="log"),
    path("journal/alertes/", views.log_alerts, name="alerts"),
]
