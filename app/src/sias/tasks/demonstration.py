"""Tasks of every box."""

from datetime import timedelta

from django.utils import timezone

from sias.platform.demonstration import Scene, demonstration
from sias.tasks.services import escalate, push

# title, days until due, urgent, whether the agent holds it
TASKS = (
    ("Rappeler la famille", 0, True, True),
    ("Préparer le renouvellement du contrat d'insertion", 6, False, True),
    ("Relancer le bailleur sur l'impayé", -8, False, True),
    ("Vérifier la quittance de loyer", 2, False, False),
    ("Examiner la demande d'aide au chauffage", 1, True, False),
    ("Visite à domicile à programmer", 12, False, False),
    ("Compléter le dossier : attestation de ressources", -1, False, False),
)


@demonstration(order=10)
def make(scene: Scene) -> None:
    """A box with something in each tab."""
    today = timezone.localdate()
    for number, (title, days, urgent, mine) in enumerate(TASKS):
        push(
            "demonstration",
            title,
            service=scene.agent.service,
            assignee=scene.agent if mine else None,
            person=scene.persons[number % len(scene.persons)],
            due=today + timedelta(days=days),
            urgent=urgent,
            external_key=f"demonstration:{number}",
            agent=scene.colleague,
        )
    push(
        "demonstration",
        "Valider les congés de l'équipe",
        service=scene.agent.service,
        application="RH",
        external_key="demonstration:conges",
        due=today + timedelta(days=3),
    )
    escalate(100)
