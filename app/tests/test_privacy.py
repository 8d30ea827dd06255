"""Rights of persons, purposes of fields, retention."""

import json
import uuid
from datetime import date, timedelta

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone
from django.utils.timezone import localdate
from sias.privacy import register, retention, services
from sias.privacy.models import Restriction, RightsRequest
from sias.reception.models import Contact
from sias.repertoire.models import Person
from sias.repertoire.nir import key
from sias.tasks.models import Task
from sias.tasks.services import push

from tests.conftest import make_agent, manage, sign_in

OURS = [model for model in apps.get_models() if model._meta.app_config in register.ours()]


@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.label)
def test_every_field_has_a_purpose_and_every_model_a_retention(model):
    declared = register.declarations().get(model)
    assert declared is not None, f"{model._meta.label} is in no {register.FILE}"
    assert not declared.missing, f"no purpose for {sorted(declared.missing)}"


@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.label)
def test_what_hangs_on_a_person_says_what_becomes_of_it(model):
    declared = register.declarations()[model]
    if any(part.related_model is Person for part in model._meta.concrete_fields):
        assert declared.fate in register.FATES, "avec_la_personne"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ({"regle": "toujours"}, "regle"),
        ({"regle": "trace", "suivi": "kind inconnu"}, "inconnu"),
        ({"regle": "trace", "suivi": "kind", "contact": "kind"}, "two purposes"),
        ({"regle": "trace", "echeance": "jamais"}, "jamais"),
        ({"regle": "trace", "avec_la_personne": "oublier"}, "avec_la_personne"),
        ({"regle": "trace", "autre": "x"}, "autre"),
    ],
)
def test_a_wrong_declaration_is_named(tmp_path, lines, words):
    with pytest.raises(ImproperlyConfigured, match=words):
        register._read(Task, lines, tmp_path)


@pytest.mark.parametrize(
    ("day", "due"),
    [
        (date(2026, 1, 15), date(2026, 2, 15)),
        (date(2026, 1, 31), date(2026, 2, 28)),
        (date(2028, 1, 30), date(2028, 2, 29)),
        (date(2026, 12, 31), date(2027, 1, 31)),
        (date(2026, 10, 31), date(2026, 11, 30)),
    ],
)
def test_the_answer_is_due_in_a_month(day, due):
    assert services.one_month_after(day) == due


@pytest.fixture(scope="module")
def officer(database):
    """The data-protection officer."""
    make_agent("dpo", "DP", first_name="Dominique", last_name="Protection")
    return sign_in("dpo")


def post(client, path, **data):
    return client.post(path, {"idempotency_key": uuid.uuid4().hex, **data})


def ask(client, person, kind, detail="Tout ce que vous avez") -> RightsRequest:
    answer = post(
        client,
        f"/personnes/{person.pk}/droits/",
        kind=kind,
        received_on=f"{localdate():%d/%m/%Y}",
        channel="courrier",
        detail=detail,
    )
    assert answer.status_code == 302
    return RightsRequest.objects.get(person=person, kind=kind)


def test_an_access_request_is_a_task_for_a_month_and_gives_a_copy(client, officer, person):
    number = "2800757463012"
    person.set_nir(f"{number}{key(number):02d}")
    person.save()
    Contact.objects.create(person=person, channel="accueil", subject="Factures impayées")
    made = ask(client, person, "acces")
    assert made.task.due == made.due == services.one_month_after(localdate())
    assert made.task.service == services.OFFICER
    answer = officer.get(f"/rgpd/{made.pk}/donnees/")
    assert "attachment" in answer["Content-Disposition"]
    data = json.loads(answer.content)
    assert data["personne"]["nom de naissance"] == person.birth_name
    assert data["personne"]["NIR"] == person.nir
    assert data["donnees"]["contact"]["enregistrements"][0]["objet"] == "Factures impayées"
    assert "2 ans" in data["donnees"]["contact"]["conservation"]
    assert (
        post(officer, f"/rgpd/{made.pk}/", version=made.version, decision="accepter", answer="Remis").status_code == 302
    )
    assert Task.objects.get(pk=made.task_id).state == Task.State.DONE
    again = post(officer, f"/rgpd/{made.pk}/", version=made.version, decision="refuser", answer="Trop tard")
    assert again.status_code == 409
    assert "Trop tard" in again.content.decode()


def test_a_limitation_counts_at_once_and_ends_when_refused(client, officer, person):
    made = ask(client, person, "limitation", "Exactitude contestée")
    assert "Traitement limité" in client.get(person.get_absolute_url()).content.decode()
    post(officer, f"/rgpd/{made.pk}/", version=made.version, decision="refuser", answer="Sans fondement")
    assert services.in_force(person) == []
    assert Restriction.objects.filter(person=person).exists()


def test_an_objection_counts_once_granted(client, officer, person):
    made = ask(client, person, "opposition")
    assert services.in_force(person) == []
    post(officer, f"/rgpd/{made.pk}/", version=made.version, decision="accepter", answer="Accepté")
    assert [row.kind for row in services.in_force(person)] == ["opposition"]


def test_a_rectification_leads_to_the_file_and_says_what_is_wrong(client, officer, person):
    refused = post(
        client, f"/personnes/{person.pk}/droits/", kind="rectification", received_on=f"{localdate():%d/%m/%Y}"
    )
    assert refused.status_code == 422
    assert "ce qui est juste" in refused.content.decode()
    made = ask(client, person, "rectification", "Née le 15, pas le 14")
    assert f"/personnes/{person.pk}/modifier/" in officer.get(f"/rgpd/{made.pk}/").content.decode()
    assert officer.get(f"/rgpd/{made.pk}/donnees/").status_code == 409


AHEAD = f"{localdate() + timedelta(days=2):%d/%m/%Y}"  # two days: midnight may pass between collection and test


@pytest.mark.parametrize("day", ["31/02/2026", "", AHEAD, "01/01/1999"])
def test_an_impossible_day_is_refused_and_nothing_is_lost(client, person, day):
    answer = post(client, f"/personnes/{person.pk}/droits/", kind="acces", received_on=day, detail="gardé")
    assert answer.status_code == 422
    assert "gardé" in answer.content.decode()
    assert not RightsRequest.objects.filter(person=person).exists()


def test_the_pages_of_the_officer_answer_to_nobody_else(client, officer):
    for path in ("/rgpd/", "/rgpd/registre/"):
        assert client.get(path).status_code == 403
    assert "Demandes à traiter" in officer.get("/rgpd/").content.decode()
    assert "2 ans" in officer.get("/rgpd/registre/").content.decode()


# --- retention -------------------------------------------------------------------------------------------------------


def long_ago(person: Person) -> Person:
    Person.objects.filter(pk=person.pk).update(updated_at=timezone.now() - timedelta(days=800))
    person.refresh_from_db()
    return person


def is_due(person: Person) -> bool:
    return retention.inactive_persons(localdate()).filter(pk=person.pk).exists()


def test_a_person_without_activity_is_due_and_any_activity_keeps_them(person):
    assert not is_due(person)
    assert is_due(long_ago(person))
    task = push("essai", "En cours", service="UTAS", person=person)
    assert not is_due(person)
    task.delete()
    assert is_due(person)
    Contact.objects.create(person=person, channel="accueil", subject="Hier")
    assert not is_due(person)


def test_a_minor_is_kept(person):
    long_ago(person)
    Person.objects.filter(pk=person.pk).update(birth_date=localdate() - timedelta(days=365 * 19))
    assert not is_due(person)


def test_a_dispute_holds_a_person_who_is_due(person):
    long_ago(person)
    mine = retention.inactive_persons(localdate()).filter(pk=person.pk)
    assert retention.split(mine, localdate())[0].count() == 1
    Restriction.objects.create(person=person, kind="litige", reason="Recours")
    free, held = retention.split(mine, localdate())
    assert free.count() == 0
    assert held == {"restriction en cours": 1}


def test_a_dry_run_touches_nothing(person):
    long_ago(person)
    task = push("essai", "Vieille", service="UTAS")
    Task.objects.filter(pk=task.pk).update(state="faite", closed_at=timezone.now() - timedelta(days=800))
    done = manage("purge_data", "--json", user="sias_app", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["wet"] is False
    assert report["deleted"]["tasks.Task"] >= 1
    assert report["anonymised"] >= 1
    assert Task.objects.filter(pk=task.pk).exists()
    assert Person.objects.get(pk=person.pk).birth_name == person.birth_name


def test_a_closed_task_is_deleted_after_its_time_and_not_before():
    tasks = [push("essai", "Vieille", service="UTAS") for _ in range(2)]
    for task, days in zip(tasks, (800, 700), strict=True):
        Task.objects.filter(pk=task.pk).update(state="faite", closed_at=timezone.now() - timedelta(days=days))
    declaration = register.declarations()[Task]
    rows = retention.due_rows(declaration, localdate()).filter(pk__in=[task.pk for task in tasks])
    assert retention._delete(rows) == 1
    assert not Task.objects.filter(pk=tasks[0].pk).exists()
    assert Task.objects.filter(pk=tasks[1].pk).exists()


def test_anonymised_means_in_history_too(cluster, person):
    Contact.objects.create(person=person, channel="accueil", subject="Il y a longtemps")
    Person.objects.filter(pk=person.pk).update(phone="0387000000")
    code = f"from sias.privacy import retention; retention.anonymise([{person.pk}])"
    manage("shell", "--no-imports", "-c", code)
    now = Person.objects.get(pk=person.pk)
    assert (now.birth_name, now.phone, now.email, now.address, now.nir) == (retention.ANONYMOUS, "", "", "", "")
    assert (now.birth_date.month, now.birth_date.day, now.birth_date.year) == (1, 1, person.birth_date.year)
    assert now.commune_id == person.commune_id
    assert not Contact.objects.filter(person=person).exists()
    query = "SELECT count(*) FROM history_change WHERE coalesce(before::text, '') || coalesce(after::text, '') LIKE %s"
    traces = cluster.sql(query, [f"%{person.birth_name}%"])
    assert traces == [(0,)]
    guarded = cluster.sql("SELECT tgenabled FROM pg_trigger WHERE tgname = 'append_only'")
    assert guarded == [("O",)]


def test_the_application_role_cannot_purge():
    refused = manage("purge_data", "--wet-run", user="sias_app", check=False)
    assert refused.returncode == 3
    assert "sias_owner" in refused.stderr


def test_a_purge_of_the_future_is_refused():
    refused = manage("purge_data", "--wet-run", "--on", "2999-01-01", check=False)
    assert refused.returncode != 0
    assert "future" in refused.stderr


def test_a_transaction_that_fails_forgets_the_request(person, agent):
    with transaction.atomic():
        services.receive(person, {"kind": "acces", "received_on": localdate(), "detail": "", "channel": ""}, agent)
        transaction.set_rollback(True)
    assert not RightsRequest.objects.filter(person=person).exists()


def test_a_limitation_is_read_and_not_changed_but_by_whom_answers(client, officer, person, identity):
    page = client.get(person.get_absolute_url()).content.decode()
    assert "/modifier/" in page
    ask(client, person, "limitation", "Exactitude contestée")
    shown = client.get(person.get_absolute_url())
    assert shown.status_code == 200
    assert "/modifier/" not in shown.content.decode()
    household = person.memberships.get().household.get_absolute_url()
    for path, data in (
        (f"{person.get_absolute_url()}modifier/", identity | {"version": person.version}),
        (f"{person.get_absolute_url()}documents/", {}),
        (f"{household}notes/nouvelle/", {"kind": "note"}),
    ):
        refused = client.post(path, {**data, "idempotency_key": uuid.uuid4().hex})
        assert refused.status_code == 403, path
        assert "limité à sa demande (RGPD, article 18)" in refused.content.decode()
    sent = identity | {"version": person.version, "address": "9 rue Rectifiée", "idempotency_key": uuid.uuid4().hex}
    assert officer.post(f"{person.get_absolute_url()}modifier/", sent).status_code == 302


def test_a_household_is_changed_for_its_other_members(client, person, identity):
    number = person.memberships.get().household.number
    joining = identity | {"first_names": "Noé", "household": number, "idempotency_key": uuid.uuid4().hex}
    client.post("/personnes/nouvelle/", joining)
    ask(client, person, "limitation", "Exactitude contestée")
    address = f"{person.memberships.get().household.get_absolute_url()}notes/nouvelle/"
    note = {
        "kind": "note",
        "visibility": "partagee",
        "happened_on": f"{localdate():%d/%m/%Y}",
        "body": "Pour l'enfant",
        "idempotency_key": uuid.uuid4().hex,
    }
    assert client.post(address, note).status_code == 302
    about = note | {"person": person.pk, "idempotency_key": uuid.uuid4().hex}
    assert client.post(address, about).status_code == 403
