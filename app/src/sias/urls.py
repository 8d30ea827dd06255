"""Addresses. Drills and load tests use them too: see ARCHITECTURE.md before changing one."""

from django.urls import include, path

from sias.accounts import views as accounts
from sias.api.core import urls as api_urls
from sias.habilitations import views as habilitations
from sias.habilitations.rights import for_everyone
from sias.platform import views as platform

urlpatterns = [
    path("", habilitations.home, name="home"),
    path("connexion/", accounts.sign_in, name="sign_in"),
    path("deconnexion/", for_everyone(accounts.sign_out), name="sign_out"),
    path("healthz/live", platform.live, name="live"),
    path("healthz/ready", platform.ready, name="ready"),
    path("metrics", platform.metrics_page, name="metrics"),
    path("", include("sias.repertoire.urls")),
    path("", include("sias.duplicates.urls")),
    path("", include("sias.evaluations.urls")),
    path("", include("sias.notes.urls")),
    path("", include("sias.households.urls")),
    path("", include("sias.documents.urls")),
    path("", include("sias.tasks.urls")),
    path("", include("sias.reception.urls")),
    path("", include("sias.thirdparties.urls")),
    path("", include("sias.privacy.urls")),
    path("", include("sias.controle.urls")),
    path("", include("sias.dictionaries.urls")),
    path("", include("sias.directory.urls")),
    path("api/v1/", api_urls()),
    path("", include("sias.habilitations.urls")),
]
handler500 = "sias.platform.failover.server_error"
handler404 = "sias.platform.views.not_found"
handler403 = "sias.habilitations.views.refused"
