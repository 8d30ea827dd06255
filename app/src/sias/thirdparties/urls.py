"""Addresses of third parties."""

from django.urls import path

from sias.thirdparties import views

app_name = "thirdparties"
urlpatterns = [
    path("tiers/", views.index, name="index"),
    path("tiers/nouveau/", views.edit, name="create"),
    path("tiers/rapprochement/", views.reconcile, name="reconcile"),
    path("tiers/<int:identity>/", views.show, name="show"),
    path("tiers/<int:identity>/modifier/", views.edit, name="edit"),
    path("tiers/<int:identity>/decision/", views.decide, name="decide"),
]
