"""What was written about the first household."""

from datetime import timedelta

from django.utils import timezone

from sias.notes.models import Note
from sias.platform.demonstration import Scene, demonstration

SHARED, SERVICE = Note.Visibility.SHARED, Note.Visibility.SERVICE
WORDS = (
    (Note.Kind.ALERT, SHARED, 0, "Coupure d'électricité annoncée : voir l'échéancier avant la fin du mois."),
    (
        Note.Kind.INTERVIEW,
        SHARED,
        2,
        "Entretien à domicile. Les impayés remontent à la perte de l'emploi, au printemps.",
    ),
    (Note.Kind.NOTE, SERVICE, 9, "A rappelé : le dossier de surendettement est déposé."),
)
PINNED = 30  # days for which an alert stands above the file


@demonstration(order=20)
def make(scene: Scene) -> None:
    """An alert that stands above the file, an interview, a note of the service."""
    person, today = scene.persons[0], timezone.localdate()
    household = person.memberships.get(until=None).household
    for kind, visibility, ago, body in WORDS:
        Note.objects.create(
            household=household,
            person=person,
            kind=kind,
            visibility=visibility,
            service=scene.agent.service,
            happened_on=today - timedelta(days=ago),
            body=body,
            pinned_until=today + timedelta(days=PINNED) if kind == Note.Kind.ALERT else None,
            author=scene.agent,
        )
