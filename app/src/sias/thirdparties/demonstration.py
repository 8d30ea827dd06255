"""Third parties in each state."""

from django.utils import timezone

from sias.platform.demonstration import Scene, demonstration
from sias.thirdparties import services

# Numbers with valid keys that belong to nobody's account: IBAN of the norms' examples.
ROWS = (
    ("Office public de l'habitat", "73282932000074", "FR1420041010050500013M02606", "T001"),
    ("Énergie de Lorraine", "35600000000048", "FR7630006000011234567890189", "T002"),
    ("Association d'aide à domicile", "55210055400013", "FR7630001007941234567890185", ""),
)


@demonstration(order=30)
def make(scene: Scene) -> None:
    """Two that Finance validated, one that waits, and a difference to look at."""
    for name, siret, iban, number in ROWS:
        data = {"name": name, "siret": siret, "iban": iban, "address": "1 place de la Préfecture, Metz", "person": None}
        made = services.save(data, scene.agent)
        if number:
            services.decide(made.pk, made.version, scene.colleague, number=number)
    services.receive(
        [
            {"number": "T001", "name": ROWS[0][0], "siret": ROWS[0][1], "iban": ROWS[1][2], "active": True},
            {"number": "T002", "name": ROWS[1][0], "siret": ROWS[1][1], "iban": ROWS[1][2], "active": True},
        ],
        timezone.now(),
    )
