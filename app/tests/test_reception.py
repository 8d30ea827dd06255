"""Contacts, appointments, referrals, the timeline."""

import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError
from django.utils import timezone
from sias.reception import timeline
from sias.reception.models import Appointment, Contact, Referral
from sias.tasks.models import Task

from tests.conftest import sign_in


def post(client, path, **data):
    return client.post(path, {"idempotency_key": uuid.uuid4().hex, **data})


def appointment(**changes: str) -> dict:
    day = timezone.localdate() + timedelta(days=400 + uuid.uuid4().int % 400)
    return {
        "subject": "Premier entretien",
        "agent": "agent",
        "day": f"{day:%d/%m/%Y}",
        "hour": "14h30",
        "minutes": "45",
        "place": "Bureau 2",
        **changes,
    }


def test_a_contact_is_noted_and_shown(client, person):
    assert client.get(f"/personnes/{person.pk}/contact/").status_code == 200
    answer = post(client, f"/personnes/{person.pk}/contact/", channel="accueil", subject="Factures", summary="Orientée")
    assert answer.status_code == 302
    for path in (person.get_absolute_url(), "/accueil/", f"/personnes/{person.pk}/chronologie/"):
        assert "Factures" in client.get(path).content.decode(), path


@pytest.mark.parametrize(
    ("path", "data", "words"),
    [
        ("contact", {"channel": "pigeon", "subject": "x"}, "pigeon"),
        ("contact", {"channel": "accueil", "subject": "", "summary": "gardé"}, "gardé"),
        ("rendez-vous", appointment(day="31/02/2030"), "31/12/2026"),
        ("rendez-vous", appointment(day="01/01/2001"), "déjà passé"),
        ("rendez-vous", appointment(day="01/01/9999"), "trop lointaine"),
        ("rendez-vous", appointment(hour="25:00"), "14:30"),
        ("rendez-vous", appointment(minutes="0"), "Premier entretien"),
        ("rendez-vous", appointment(agent="personne-du-tout"), "Aucun agent"),
        ("orienter", {"to_service": "", "reason": "gardé"}, "gardé"),
    ],
)
def test_a_refused_form_says_why_and_keeps_what_was_typed(client, person, path, data, words):
    answer = post(client, f"/personnes/{person.pk}/{path}/", **data)
    assert answer.status_code == 422
    assert "Rien n" in answer.content.decode()
    assert words in answer.content.decode()
    assert not Contact.objects.filter(person=person).exists()
    assert not Appointment.objects.filter(person=person).exists()


def test_an_agent_has_one_appointment_at_a_time(client, person, agent):
    data = appointment()
    assert post(client, f"/personnes/{person.pk}/rendez-vous/", **data).status_code == 302
    answer = post(client, f"/personnes/{person.pk}/rendez-vous/", **data | {"hour": "15:00"})
    assert answer.status_code == 422
    assert "déjà un rendez-vous" in answer.content.decode()
    assert post(client, f"/personnes/{person.pk}/rendez-vous/", **data | {"hour": "15:15"}).status_code == 302
    first = Appointment.objects.filter(person=person).first()
    with pytest.raises(IntegrityError, match="appointment_one_at_a_time"):
        Appointment.objects.create(
            person=person, agent=agent, subject="x", starts_at=first.starts_at, ends_at=first.ends_at
        )


def test_what_became_of_an_appointment_is_said_once(client, person, agent):
    now = timezone.now()
    made = Appointment.objects.create(
        person=person,
        agent=agent,
        service=agent.service,
        subject="Aujourd'hui",
        starts_at=now,
        ends_at=now + timedelta(minutes=1),
    )
    assert str(person) in client.get("/accueil/").content.decode()
    path = f"/accueil/rendez-vous/{made.pk}/"
    assert post(client, path, etat="parti").status_code == 422
    assert post(client, path, etat="honore").status_code == 302
    assert post(client, path, etat="absent").status_code == 409
    made.refresh_from_db()
    assert made.state == "honore"


def test_a_referral_is_a_task_elsewhere_until_it_is_answered(client, person):
    service = f"Cellule {uuid.uuid4().hex[:6]}"
    answer = post(client, f"/personnes/{person.pk}/orienter/", to_service=service, reason="Impayés", urgent="on")
    assert answer.status_code == 302
    made = Referral.objects.get(person=person)
    assert (made.task.service, made.task.urgent, made.task.open) == (service, True, True)
    assert made.task.due is not None
    path = f"/accueil/orientations/{made.pk}/"
    assert made.task.url == path
    assert post(client, path, decision="refusee").status_code == 422
    assert post(client, path, decision="refusee", answer="Hors de notre secteur").status_code == 302
    assert Task.objects.get(pk=made.task_id).state == Task.State.DONE
    assert post(client, path, decision="acceptee").status_code == 409
    assert "Hors de notre secteur" in client.get(path).content.decode()


def test_the_timeline_merges_sources_in_pages(client, person, monkeypatch):
    now = timezone.now()
    monkeypatch.setattr(timeline, "SOURCES", dict(timeline.SOURCES))
    monkeypatch.setattr("sias.reception.views.SOURCES", timeline.SOURCES)

    @timeline.source("essai", "Essai")
    def many(_request, _person, before, limit):
        every = [timeline.Moment(now - timedelta(hours=hour), f"moment {hour:03d}") for hour in range(100)]
        return [moment for moment in every if moment.at < before][:limit]

    seen, address = [], f"/personnes/{person.pk}/chronologie/?source=essai"
    for _ in range(5):
        answer = client.get(address)
        seen += [moment.what for moment in answer.context["moments"]] if answer.context else []
        page = answer.content.decode()
        if 'rel="next"' not in page:
            break
        mark = page.split("?avant=")[1].split("&amp;")[0]
        address = f"/personnes/{person.pk}/chronologie/?avant={mark}&source=essai"
    assert [int(what.split()[1]) for what in seen] == list(range(100))


@pytest.mark.parametrize(
    "mark", ["demain", "2026-13-45T00:00:00Z", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59Z", "\x00"]
)
def test_a_bad_mark_starts_the_timeline_again(client, person, mark):
    answer = client.get(f"/personnes/{person.pk}/chronologie/", {"avant": mark, "source": "inconnue"})
    assert answer.status_code == 200
    assert "Entrée dans un ménage" in answer.content.decode()


def test_what_is_read_and_written_is_in_the_access_log(cluster, client, person):
    post(client, f"/personnes/{person.pk}/contact/", channel="accueil", subject="Trace")
    client.get(f"/personnes/{person.pk}/chronologie/")
    rows = cluster.sql("SELECT action FROM journal_entry WHERE person_id = %s AND domain = 'accueil'", [person.pk])
    assert {("creation",), ("consultation",)} <= set(rows)


def test_a_service_without_name_sees_its_own_desk_only():
    assert sign_in("autre").get("/accueil/").status_code == 200
