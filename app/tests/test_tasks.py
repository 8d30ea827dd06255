"""The box of tasks and the cross-domain records."""

import uuid
from datetime import date, timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils.timezone import localdate
from sias.crossdomain import services as crossdomain
from sias.crossdomain.models import Involvement
from sias.habilitations.protection import acting_for_nobody
from sias.repertoire.models import Person
from sias.tasks import duties, services
from sias.tasks.models import Absence, Task

from tests.conftest import make_agent, sign_in
from tests.test_persons import text


@pytest.fixture
def service():
    """A service that no other test uses, and its two agents."""
    name = f"Service {uuid.uuid4().hex[:8]}"
    return [
        make_agent(f"{who}-{uuid.uuid4().hex[:8]}", "TS", first_name=who.title(), last_name="Essai", service=name)
        for who in ("un", "deux")
    ]


def post(client, task, action, **data):
    return client.post(
        f"/taches/{task.pk}/action/",
        {"action": action, "version": task.version, "idempotency_key": uuid.uuid4().hex, **data},
    )


def fresh(task):
    return Task.objects.get(pk=task.pk)


def test_a_task_goes_from_the_service_to_an_agent_and_is_done(service):
    one, two = service
    task = services.push("essai", "Rappeler la famille", service=one.service)
    client = sign_in(one.username)
    assert services.counts(one) == {"miennes": 0, "service": 1, "retard": 0}
    assert "Rappeler la famille" in client.get("/taches/?boite=service").content.decode()
    assert post(client, task, "prendre").status_code == 302
    assert services.counts(one) == {"miennes": 1, "service": 0, "retard": 0}
    assert services.counts(two) == {"miennes": 0, "service": 0, "retard": 0}
    assert post(client, fresh(task), "deleguer", to=two.username, note="Tu la connais").status_code == 302
    assert "Rappeler la famille" in sign_in(two.username).get("/taches/").content.decode()
    assert post(sign_in(two.username), fresh(task), "terminer").status_code == 302
    done = fresh(task)
    assert (done.state, done.closed_by) == (Task.State.DONE, two)
    assert [event.what for event in done.events.all()] == [
        "Créée par SIAS",
        "Prise en charge",
        f"Déléguée à {two}",
        "Terminée",
    ]
    assert "Rappeler la famille" in sign_in(two.username).get("/taches/?boite=faites").content.decode()


def test_two_agents_who_take_the_same_task_are_told(service):
    one, two = service
    task = services.push("essai", "Une seule fois", service=one.service)
    assert post(sign_in(one.username), task, "prendre").status_code == 302
    late = post(sign_in(two.username), task, "prendre", note="je m'en occupe")
    assert late.status_code == 409
    assert "Quelqu'un a agi sur cette tâche" in late.content.decode().replace("&#x27;", "'")
    assert "je m&#x27;en occupe" in late.content.decode()
    assert fresh(task).assignee == one


def test_a_task_of_another_service_cannot_be_acted_on(service):
    task = services.push("essai", "Ailleurs", service="Un autre service")
    answer = post(sign_in(service[0].username), task, "prendre")
    assert answer.status_code == 403
    assert fresh(task).assignee is None


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        ({"action": "voler"}, 422, "existe pas"),
        ({"action": "deleguer", "to": "personne-du-tout"}, 422, "Aucun agent"),
        ({"action": "deleguer", "to": ""}, 422, "Indiquez un agent"),
        ({"action": "prendre", "version": "x"}, 422, "version"),
    ],
)
def test_a_refused_action_says_why_and_keeps_the_comment(service, data, status, words):
    task = services.push("essai", "Refus", service=service[0].service)
    answer = post(sign_in(service[0].username), task, **{"note": "mon commentaire", **data})
    assert answer.status_code == status
    assert words in answer.content.decode()
    assert "mon commentaire" in answer.content.decode()
    assert fresh(task).version == task.version


def test_a_substitute_sees_and_does_the_tasks_of_the_absent(service):
    one, two = service
    task = services.push("essai", "Pendant les congés", assignee=one)
    assert post(sign_in(two.username), task, "terminer").status_code == 403
    answer = sign_in(one.username).post(
        "/taches/absences/",
        {
            "since": localdate().strftime("%d/%m/%Y"),
            "until": (localdate() + timedelta(days=7)).strftime("%d/%m/%Y"),
            "substitute": two.username,
            "idempotency_key": uuid.uuid4().hex,
        },
    )
    assert answer.status_code == 302
    assert "Pendant les congés" in sign_in(two.username).get("/taches/").content.decode()
    assert post(sign_in(two.username), task, "terminer").status_code == 302
    absence = Absence.objects.get(agent=one)
    address = f"/taches/absences/{absence.pk}/effacer/"
    assert sign_in(two.username).post(address, {"idempotency_key": uuid.uuid4().hex}).status_code == 404
    assert sign_in(one.username).post(address, {"idempotency_key": uuid.uuid4().hex}).status_code == 302


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"until": "01/01/2020"}, "avant le premier"),
        ({"since": "31/02/2026"}, "31/12/2026"),
        ({"substitute": "agent"}, "vous remplacer vous-même"),
    ],
)
def test_an_absence_that_makes_no_sense_is_refused(client, change, words):
    data = {"since": "01/12/2030", "until": "05/12/2030", "substitute": "autre", "idempotency_key": uuid.uuid4().hex}
    answer = client.post("/taches/absences/", data | change)
    assert answer.status_code == 422
    assert words in answer.content.decode()


def test_a_late_task_is_shown_to_the_whole_service_once(service):
    one, two = service
    for days, title in ((10, "Très en retard"), (1, "Un peu en retard")):
        services.push("essai", title, assignee=one, due=localdate() - timedelta(days=days))
    with transaction.atomic():
        duties.escalate_late()
    page = sign_in(two.username).get("/taches/?boite=retard").content.decode()
    assert "Très en retard" in page
    assert "Un peu en retard" not in page
    with transaction.atomic():
        assert services.escalate(500) == 0


def test_an_application_corrects_and_closes_its_own_task(service):
    mine = {"service": service[0].service, "application": "RH", "external_key": uuid.uuid4().hex}
    first = services.push("essai", "Valider des congés", **mine)
    again = services.push("essai", "Valider des congés d'été", **mine)
    assert first.pk == again.pk
    assert fresh(first).title == "Valider des congés d'été"
    services.close("RH", mine["external_key"])
    assert fresh(first).state == Task.State.DONE
    assert services.push("essai", "Encore", **mine).state == Task.State.DONE


def test_a_declared_kind_gives_the_due_date(service):
    services.register("essai-delai", "Essai", days=30)
    assert services.push("essai-delai", "Un mois", service=service[0].service).due == localdate() + timedelta(days=30)


def test_a_task_without_a_box_is_refused():
    with pytest.raises(ValueError, match="service or an agent"):
        services.push("essai", "Pour personne")


def test_boxes_and_counts_use_their_partial_indexes(service):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for name, index in (("miennes", "task_of_agent"), ("service", "task_of_service")):
            plan = services.box(service[0], name).explain()
            assert index in plan, plan


def test_a_box_keeps_its_pages_short_and_bad_pages_mean_the_first(client):
    for page in ("²", "0", "-1", "x", "99999999999999999999", "999"):
        assert client.get("/taches/", {"page": page, "boite": "inconnue"}).status_code == 200


# --- cross-domain records --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _domains(monkeypatch):
    monkeypatch.setattr(crossdomain, "DOMAINS", {})
    monkeypatch.setattr("sias.crossdomain.panels.DOMAINS", crossdomain.DOMAINS)


def test_a_module_feeds_the_record_in_its_own_transaction(client, person, agent):
    crossdomain.register("fsl", "Logement (FSL)")
    with transaction.atomic():
        crossdomain.publish("fsl", "D1", person, status="En cours", service="Cellule FSL", since=date(2026, 1, 5))
    page = client.get(person.get_absolute_url()).content.decode()
    assert "Logement (FSL)" in page
    assert "Cellule FSL" in page
    with transaction.atomic():
        crossdomain.publish("fsl", "D1", person, status="Clos", since=date(2026, 1, 5), until=date(2026, 3, 1))
        transaction.set_rollback(True)
    assert Involvement.objects.get(domain="fsl", reference="D1", person=person).status == "En cours"
    with transaction.atomic():
        crossdomain.publish(
            "fsl", "D1", person, status="Clos", referent=agent, since=date(2026, 1, 5), until=date(2026, 3, 1)
        )
    assert "Clos" in client.get(person.get_absolute_url()).content.decode()
    crossdomain.withdraw("fsl", "D1")
    assert not Involvement.objects.filter(domain="fsl", reference="D1").exists()


def test_a_record_outside_a_transaction_or_of_no_module_is_refused(person):
    crossdomain.register("fsl", "Logement (FSL)")
    with pytest.raises(transaction.TransactionManagementError):
        crossdomain.publish("fsl", "D2", person, status="En cours", since=date(2026, 1, 5))
    with pytest.raises(LookupError), transaction.atomic():
        crossdomain.publish("inconnu", "D2", person, status="En cours", since=date(2026, 1, 5))
    with pytest.raises(IntegrityError), transaction.atomic():
        crossdomain.publish("fsl", "D2", person, status="x", since=date(2026, 1, 5), until=date(2025, 1, 5))


def test_a_protected_domain_shows_its_service_only(client, person, monkeypatch):
    crossdomain.register("ase", "Aide sociale à l'enfance", protected=True)
    monkeypatch.setattr("sias.crossdomain.panels.can", lambda *_: False)
    with acting_for_nobody("ase"):
        crossdomain.publish("ase", "D3", person, status="Placement", service="Pôle ASE", since=date(2026, 1, 5))
    page = client.get(person.get_absolute_url()).content.decode()
    assert "Suivi protégé" in page
    assert "Pôle ASE" in page
    assert "Placement" not in page
    assert "Aide sociale" not in page


def test_a_box_names_nobody_whom_its_agent_may_not_open(service):
    person = Person.objects.filter(commune="57672").order_by("id").first()
    agent = make_agent(f"masque-{uuid.uuid4().hex[:8]}", "TS", territory="UTAS-METZ", service=service[0].service)
    task = services.push(
        "orientation", f"Orientation : {person}", service=agent.service, person=person, body=f"Pour {person}"
    )
    near = sign_in(service[0].username)
    far = sign_in(agent.username)
    for path in ("/taches/?boite=service", task.get_absolute_url()):
        assert str(person) in text(near.get(path))
        page = far.get(path)
        assert page.status_code == 200
        assert person.birth_name not in text(page)
        assert "Personne hors de votre territoire" in text(page)
        assert task.get_absolute_url() in text(page)
    assert str(person) not in text(post(far, task, "prendre"))
