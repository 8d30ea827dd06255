"""Control: asking, validating and reviewing rights, examining exceptional accesses, reading the log."""

import uuid
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.timezone import localdate
from sias.habilitations.models import Assignment, BreakGlass, ConfidentialPerson
from sias.history.models import Change
from sias.journal.access import Action, record_access
from sias.repertoire.models import Person
from sias.socle.models import Territory
from sias.tasks.models import Task

from tests.conftest import make_agent


def fresh(*profiles: str, **where: str):
    return make_agent(f"c{uuid.uuid4().hex[:12]}", *profiles, **where)


def browser(agent) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(agent)
    return client


def post(client, path, **data):
    return client.post(path, {"idempotency_key": uuid.uuid4().hex, **data})


def asked(of, **changes: str) -> dict:
    return {
        "agent": of.username,
        "profile": "TS",
        "territory": "UTAS-METZ",
        "service": "",
        "since": f"{localdate():%d/%m/%Y}",
        "until": f"{localdate() + timedelta(days=90):%d/%m/%Y}",
        "reason": "arrivée dans le service",
    } | changes


def test_a_right_counts_once_another_administrator_validated_it():
    one, other, agent = fresh("AN"), fresh("AN"), fresh()
    assert post(browser(one), "/habilitations/nouvelle/", **asked(agent)).status_code == 302
    made = Assignment.objects.get(agent=agent)
    assert browser(agent).get("/repertoire/").status_code == 403
    assert post(browser(one), f"/habilitations/{made.pk}/valider/").status_code == 403
    assert browser(agent).get("/repertoire/").status_code == 403
    page = browser(other).get("/habilitations/?voir=valider").content.decode()
    assert "Valider" in page
    assert f"<td>{Territory.objects.on().get(code=made.territory)}</td>" in page
    assert post(browser(other), f"/habilitations/{made.pk}/valider/").status_code == 302
    assert browser(agent).get("/repertoire/").status_code == 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent": "personne-d-ici"}, "Aucun agent actif"),
        ({"territory": "UTAS-PARIS"}, "Aucun territoire"),
        ({"service": "RIEN"}, "Aucun service"),
        ({"until": f"{localdate() + timedelta(days=900):%d/%m/%Y}"}, "Un an au plus"),
        ({"until": f"{localdate():%d/%m/%Y}"}, "La fin doit suivre"),
        ({"until": "31/02/2027"}, "31/12/2026"),
        ({"reason": ""}, "obligatoire"),
    ],
)
def test_a_request_that_cannot_stand_says_why_and_keeps_what_was_typed(changes, message):
    agent = fresh()
    response = post(browser(fresh("AN")), "/habilitations/nouvelle/", **asked(agent, **changes))
    page = response.content.decode()
    assert response.status_code == 422
    assert message in page
    assert changes.get("agent", agent.username) in page
    assert not Assignment.objects.filter(agent=agent).exists()


def test_an_administrator_of_a_territory_gives_nothing_outside_it():
    here = fresh("AS", territory="UTAS-METZ")
    agent = fresh()
    refused = post(browser(here), "/habilitations/nouvelle/", **asked(agent, territory="UTAS-THIONVILLE"))
    assert refused.status_code == 403
    assert post(browser(here), "/habilitations/nouvelle/", **asked(agent, territory="57")).status_code == 403
    assert post(browser(here), "/habilitations/nouvelle/", **asked(agent)).status_code == 302


@pytest.mark.parametrize(("decision", "status"), [("garder", 200), ("fin", 403)])
def test_a_review_keeps_for_a_year_or_ends_today(decision, status):
    agent = fresh("TS")
    held = Assignment.objects.get(agent=agent)
    old = timezone.now() - timedelta(days=300)
    Assignment.objects.filter(pk=held.pk).update(
        since=old.date(), validated_at=old, until=localdate() + timedelta(days=20)
    )
    officer = browser(fresh("DP"))
    for shown in ("revoir", "finir"):
        assert agent.username in officer.get("/habilitations/", {"voir": shown}).content.decode()
    assert post(officer, f"/habilitations/{held.pk}/revoir/", decision=decision).status_code == 302
    officer.get("/habilitations/")  # shows the message
    assert agent.username not in officer.get("/habilitations/?voir=revoir").content.decode()
    assert browser(agent).get("/repertoire/").status_code == status


def test_nobody_reviews_their_own_rights():
    agent = fresh("DP")
    held = Assignment.objects.get(agent=agent)
    assert post(browser(agent), f"/habilitations/{held.pk}/revoir/", decision="garder").status_code == 403


def test_an_exceptional_access_is_a_task_until_it_is_examined_by_someone_else():
    person = Person.objects.filter(commune="57672").order_by("id").first()
    agent = fresh("AS", territory="UTAS-METZ")
    reason = f"Signalement du parquet {uuid.uuid4().hex}"
    assert post(browser(agent), f"/personnes/{person.pk}/acces-exceptionnel/", motif=reason).status_code == 302
    access = BreakGlass.objects.get(agent=agent)
    task = Task.objects.get(external_key=f"acces-exceptionnel-{access.pk}")
    assert task.state == Task.State.OPEN
    officer = browser(fresh("DP"))
    assert reason in officer.get("/acces-exceptionnels/").content.decode()
    assert post(browser(agent), f"/acces-exceptionnels/{access.pk}/", verdict="justifie").status_code == 403
    post(officer, f"/acces-exceptionnels/{access.pk}/", verdict="peut-être")
    access.refresh_from_db()
    assert access.reviewed_at is None
    post(officer, f"/acces-exceptionnels/{access.pk}/", verdict="injustifie", comment="hors mission")
    access.refresh_from_db()
    task.refresh_from_db()
    assert (access.verdict, task.state) == ("injustifie", Task.State.DONE)


def test_only_the_officer_reads_the_log_and_that_is_logged_too(cluster):
    person, reader, officer = Person.objects.filter(commune="57463").first(), fresh("TS"), fresh("DP")
    browser(reader).get(person.get_absolute_url())
    assert browser(reader).get("/journal/").status_code == 403
    client = browser(officer)
    for asked_for in (
        {"agent": reader.username},
        {"dossier": person.number},
        {"agent": reader.username, "action": "consultation"},
    ):
        assert str(person) in client.get("/journal/", asked_for).content.decode().replace("&#x27;", "'")
    assert str(person) not in client.get("/journal/", {"agent": "personne-d-ici"}).content.decode()
    assert "Aucune personne" in client.get("/journal/", {"dossier": "P99999999"}).content.decode()
    logged = cluster.sql(
        "SELECT detail FROM journal_entry WHERE agent_id = %s AND action = 'journal' ORDER BY id", [officer.pk]
    )
    assert [{"agent": reader.username}] == [row[0] for row in logged[:1]]
    assert len(logged) == 5


def test_odd_reading_is_listed(cluster):
    greedy, relative = fresh("TS"), fresh("TS")
    some = list(Person.objects.order_by("id")[:151])
    for person in some:
        record_access(greedy, person, Action.READ)
    namesake = Person.objects.order_by("id").first()
    relative.last_name = namesake.birth_name.title()
    relative.save()
    browser(relative).get(namesake.get_absolute_url())
    page = browser(fresh("DP")).get("/journal/alertes/").content.decode()
    assert "151 personnes consultées" in page
    assert relative.username in page
    assert "porte le nom de l" in page


def test_the_table_is_shown_whole():
    page = browser(fresh("DP")).get("/habilitations/table/").content.decode()
    for words in (
        "Aide sociale à l",
        "domaine protégé",
        "Écoutant 115",
        "Utilisateur hébergement logement",
        "Boîte à tâches",
    ):
        assert words in page


# --- confidential files ----------------------------------------------------------------------------------------------
REASON = "Violences conjugales signalées par le parquet"


def close_file(client, person, **data):
    return post(client, f"/personnes/{person.pk}/confidentialite/", **{"motif": REASON, "decision": "poser"} | data)


def test_a_file_is_closed_with_a_reason_and_the_page_says_who_opens_it(person):
    setter, named = fresh("TS", first_name="Anne", last_name="Poseuse"), fresh("TS", last_name="Nommé")
    referee = fresh("RA", territory="UTAS-METZ", last_name="Référente")
    elsewhere = fresh("RA", territory="UTAS-THIONVILLE", last_name="Lointaine")
    client = browser(setter)
    assert "Rendre cette fiche confidentielle" in client.get(person.get_absolute_url()).content.decode()
    sent = close_file(client, person, agents=f"{setter.username}\n{named.username}")
    assert sent.status_code == 302
    page = client.get(f"/personnes/{person.pk}/confidentialite/").content.decode()
    for words in (REASON, "Anne Poseuse", "Nommé", "Référente"):
        assert words in page
    assert "Lointaine" not in page[page.index('id="lecteurs"') :]
    for agent, status in ((setter, 200), (named, 200), (referee, 200), (elsewhere, 403), (fresh("TS"), 403)):
        assert browser(agent).get(person.get_absolute_url()).status_code == status
    assert "Fiche confidentielle" in client.get(person.get_absolute_url()).content.decode()
    changes = Change.objects.filter(person_id=person.pk, table_name="habilitations_confidentialperson")
    assert [(one.agent, one.reason) for one in changes] == [(setter, REASON)]


def test_who_closes_a_file_to_themselves_is_told(person):
    client = browser(fresh("TS"))
    answer = close_file(client, person, agents="")
    assert answer["Location"] == "/repertoire/"
    page = client.get("/repertoire/").content.decode()
    assert "Vous n&#x27;y avez plus accès vous-même" in page
    assert client.get(f"/personnes/{person.pk}/confidentialite/").status_code == 403


def test_a_file_is_opened_again_with_a_reason(person):
    setter = fresh("TS")
    client = browser(setter)
    close_file(client, person, agents=setter.username)
    assert close_file(client, person, decision="lever", motif="non").status_code == 422
    assert browser(fresh("TS")).get(person.get_absolute_url()).status_code == 403
    assert close_file(client, person, decision="lever", motif="Ordonnance levée le 3").status_code == 302
    assert browser(fresh("TS")).get(person.get_absolute_url()).status_code == 200


def test_a_whole_household_is_closed_at_once_within_reach_only(client, person, identity):
    number = person.memberships.get().household.number
    answer = client.post(
        "/personnes/nouvelle/",
        identity | {"first_names": "Noé", "household": number, "idempotency_key": uuid.uuid4().hex},
    )
    child = Person.objects.get(pk=int(answer["Location"].rstrip("/").rsplit("/", 1)[-1]))
    setter = fresh("TS")
    assert close_file(browser(setter), person, agents=setter.username, foyer="on").status_code == 302
    assert ConfidentialPerson.objects.filter(person__in=[person, child]).count() == 2
    ConfidentialPerson.objects.filter(person__in=[person, child]).delete()
    Person.objects.filter(pk=child.pk).update(commune="57672")
    here = fresh("TS", territory="UTAS-METZ")
    refused = close_file(browser(here), person, agents=here.username, foyer="on")
    assert refused.status_code == 422
    assert "hors de votre portée" in refused.content.decode()
    assert not ConfidentialPerson.objects.filter(person__in=[person, child]).exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"motif": "court"}, "Dites-en plus"),
        ({"motif": ""}, "demande un motif"),
        ({"agents": "personne-d-ici"}, "Aucun agent ne répond"),
        ({"decision": "lever"}, "pas confidentielle"),
    ],
)
def test_what_is_refused_closes_nothing_and_keeps_what_was_typed(person, data, message):
    client = browser(fresh("TS"))
    refused = close_file(client, person, **{"agents": "à garder, en erreur"} | data)
    assert refused.status_code == 422
    assert message in refused.content.decode()
    assert data.get("agents", "à garder, en erreur") in refused.content.decode()
    assert not ConfidentialPerson.objects.filter(person=person).exists()


@pytest.mark.parametrize("profile", ["EC", "ST", "RD", "AF", "ME"])
def test_who_may_not_close_a_file_is_offered_nothing_and_refused(person, profile):
    client = browser(fresh(profile))
    assert "confidentialite/" not in client.get(person.get_absolute_url()).content.decode()
    assert close_file(client, person).status_code == 403
