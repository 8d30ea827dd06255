"""An import that waits to be looked at, with a line of each sort."""

from django.utils import timezone

from sias.dictionaries import imports
from sias.dictionaries.catalogue import DICTIONARIES
from sias.dictionaries.models import Import
from sias.platform.demonstration import Scene, demonstration

HEADERS = ("code", "nom", "nature", "superieur", "territoire")
LINES = (
    ("SLOG", "Service de l'habitat et du logement", "service", "DIAL", ""),
    ("CA-BITCHE", "Cellule d'appui de Bitche", "cellule", "DIAL", ""),
    ("SSS", "Service social spécialisé", "service", "DUTAS", ""),
    ("CA-NANCY", "Cellule d'appui de Nancy", "cellule", "DIAL", "UTAS-NANCY"),
)


@demonstration(order=40)
def make(scene: Scene) -> None:
    """Stage it; nobody applies it."""
    since = timezone.localdate()
    batch = Import.objects.create(
        dictionary="services",
        name="services-demonstration.csv",
        sha256="0" * 64,
        headers=list(HEADERS),
        since=since,
        staged_by=scene.agent,
    )
    lines = [(number, dict(zip(HEADERS, line, strict=True))) for number, line in enumerate(LINES, start=2)]
    imports.keep(batch, imports.stage(DICTIONARIES["services"], lines, since, complete=False))
