"""Addresses of the directory."""

from django.urls import path

from sias.directory import oidc, views

app_name = "directory"
urlpatterns = [
    path("annuaire/", views.index, name="index"),
    path("annuaire/synchroniser/", views.ask, name="ask"),
    path("annuaire/passages/<int:identity>/", views.run, name="run"),
    path("annuaire/passages/<int:identity>/admettre/", views.allow, name="allow"),
    path("annuaire/correspondances/", views.rules, name="rules"),
    path("annuaire/correspondances/nouvelle/", views.add_rule, name="add_rule"),
    path("annuaire/correspondances/<int:identity>/", views.decide_rule, name="decide_rule"),
    path("connexion/identite/", oidc.ask, name="oidc"),
    path("connexion/identite/retour/", oidc.callback, name="oidc_callback"),
]
