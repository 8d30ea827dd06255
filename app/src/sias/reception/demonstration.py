"""A day at the desk."""

from datetime import timedelta

from django.utils import timezone

from sias.platform.demonstration import Scene, demonstration
from sias.reception.models import Appointment, Contact, Referral
from sias.tasks.services import push

CONTACTS = (
    ("accueil", "Factures d'énergie impayées", "Orientée vers le fonds de solidarité pour le logement"),
    ("telephone", "Demande de rendez-vous", "Rendez-vous donné"),
    ("courrier", "Attestation de ressources", "Jointe au dossier"),
    ("domicile", "Première visite", "Logement humide, deux enfants scolarisés"),
)


@demonstration(order=20)
def make(scene: Scene) -> None:
    """Contacts, today's appointments, a referral."""
    service = scene.agent.service
    for number, person in enumerate(scene.persons[:12]):
        channel, subject, summary = CONTACTS[number % len(CONTACTS)]
        Contact.objects.create(
            person=person, channel=channel, subject=subject, summary=summary, service=service, agent=scene.agent
        )
    start = timezone.localtime().replace(hour=9, minute=0, second=0, microsecond=0)
    for number, person in enumerate(scene.persons[:5]):
        begins = start + timedelta(hours=number)
        Appointment.objects.create(
            person=person,
            agent=scene.agent,
            service=service,
            starts_at=begins,
            ends_at=begins + timedelta(minutes=45),
            place="Bureau 2",
            subject="Entretien de suivi" if number else "Premier entretien",
            created_by=scene.colleague,
        )
    person, reason = scene.persons[0], "Trois mois d'impayés, risque de coupure"
    task = push("orientation", f"Orientation : {person}", service=service, person=person, body=reason, urgent=True)
    made = Referral.objects.create(
        person=person,
        from_service="Accueil de Thionville",
        to_service=service,
        reason=reason,
        urgent=True,
        task=task,
        created_by=scene.colleague,
    )
    task.url = f"/accueil/orientations/{made.pk}/"
    task.save(update_fields=["url"])
