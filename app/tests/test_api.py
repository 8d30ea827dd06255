"""The API: keys, scopes, throttle, idempotent writes, problem+json, and no 5xx whatever is sent."""

import json
import uuid
from datetime import timedelta

import psycopg
import pytest
import schemathesis
from django.db import OperationalError
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from sias.api import core
from sias.api.models import Key, Partner, Usage
from sias.duplicates import merging
from sias.repertoire.models import Person
from sias.tasks.models import Task
from sias.wsgi import application

from tests.conftest import manage, sign_in
from tests.test_duplicates import make

NAME = "RH"


def caller(key: str):
    client = sign_in()
    client.logout()

    def call(method: str, path: str, body: object = None, **headers: str):
        return client.generic(
            method,
            f"/api/v1{path}",
            json.dumps(body) if body is not None else "",
            content_type="application/json",
            headers={
                "Authorization": f"Bearer {key}",
                **{name.replace("_", "-"): text for name, text in headers.items()},
            },
        )

    return call


@pytest.fixture(scope="module")
def key(database):
    done = manage("create_partner", NAME, "--per-minute", "100000", "--scopes", *core.SCOPES, user="sias_app")
    return done.stdout.strip()


@pytest.fixture
def call(key):
    return caller(key)


def task(**changes: object) -> dict:
    return {
        "external_key": uuid.uuid4().hex,
        "kind": "conges",
        "title": "Valider des congés",
        "service": "UTAS",
        "due": "2030-01-31",
        **changes,
    }


def is_problem(answer, status: int) -> dict:
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    body = json.loads(answer.content)
    assert body["status"] == status
    assert body["detail"]
    return body


@pytest.mark.parametrize("text", ["", "x", "sias_0123456789ab_wrong", "sias_é_x", "sias__"])
def test_an_unknown_key_is_refused(text):
    answer = caller(text)("GET", "/persons/P00000001")
    is_problem(answer, 401)
    assert answer["WWW-Authenticate"] == "Bearer"


def test_a_session_is_no_key(client):
    is_problem(client.get("/api/v1/persons/P00000001"), 401)


def test_keys_expire_are_revoked_and_are_kept_as_a_digest(key):
    partner = Partner.objects.get(name=NAME)
    text = Key.issue(partner)
    row = Key.find(text)
    assert text.encode() not in bytes(row.digest)
    Key.objects.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(days=1))
    assert Key.find(text) is None
    Key.objects.filter(pk=row.pk).update(expires_at=timezone.now() + timedelta(days=1), revoked_at=timezone.now())
    assert Key.find(text) is None
    assert Key.find(key) is not None


def test_a_scope_that_is_not_held_is_refused():
    other = manage("create_partner", "Lecteur", "--scopes", "persons:read", user="sias_app").stdout.strip()
    answer = caller(other)("POST", "/tasks", task(), Idempotency_Key=uuid.uuid4().hex)
    assert is_problem(answer, 403)["scope"] == "tasks:write"


def test_too_many_calls_are_told_when_to_come_back():
    key = manage("create_partner", "Bavard", "--per-minute", "2", "--scopes", "persons:read", user="sias_app")
    call = caller(key.stdout.strip())
    assert [call("GET", "/persons/P00000001").status_code for _ in range(2)] == [200, 200]
    answer = call("GET", "/persons/P00000001")
    is_problem(answer, 429)
    assert 1 <= int(answer["Retry-After"]) <= 61


def test_calls_are_counted_over_all_hosts(monkeypatch):
    key = manage("create_partner", "Partout", "--per-minute", "5", "--scopes", "persons:read", user="sias_app")
    call, partner = caller(key.stdout.strip()), Partner.objects.get(name="Partout")
    assert call("GET", "/persons/P00000001").status_code == 200
    mine = Usage.objects.get(partner=partner)
    assert mine.calls == 1
    Usage.objects.create(partner=partner, worker="une autre machine", calls=4, at=timezone.now())
    assert call("GET", "/persons/P00000001").status_code == 200  # asked less than a second ago
    monkeypatch.setattr("sias.api.core.SHARE_EVERY", 0)
    is_problem(call("GET", "/persons/P00000001"), 429)
    Usage.objects.filter(worker="une autre machine").update(at=timezone.now() - timedelta(seconds=61))
    assert call("GET", "/persons/P00000001").status_code == 200
    assert Usage.objects.get(pk=mine.pk).calls == 3


def test_a_merged_number_leads_to_whoever_took_it_over(call, client, identity):
    one, other = make(client, identity), make(client, identity, first_names="Dominique")
    merging.merge(merging.Kind.PERSON, one.pk, other.pk, agent=None)
    answer = call("GET", f"/persons/{other.number}")
    assert (answer.status_code, answer.json()["number"]) == (200, one.number)


def test_a_person_is_read_and_found_with_a_masked_nir(call):
    person = Person.objects.exclude(nir_index=None).order_by("id").first()
    answer = call("GET", f"/persons/{person.number}")
    assert answer.status_code == 200
    assert answer.json()["nir"] == person.nir_masked
    assert person.nir not in answer.content.decode()
    answer = call("GET", f"/persons?q={person.birth_norm}%20{person.first_norm}&birth={person.birth_date}")
    assert answer.status_code == 200, answer.content
    assert person.number in {hit["person"]["number"] for hit in answer.json()["results"]}
    is_problem(call("GET", "/persons?q="), 422)
    is_problem(call("GET", "/persons/P99999999"), 404)
    assert call("GET", f"/persons/{person.number}/involvements").json() == []


def test_a_task_is_pushed_once_shown_and_closed(call):
    data, mark = task(), uuid.uuid4().hex
    first = call("POST", "/tasks", data, Idempotency_Key=mark)
    assert first.status_code == 201, first.content
    assert call("POST", "/tasks", data, Idempotency_Key=mark).json() == first.json()
    made = Task.objects.get(application=NAME, external_key=data["external_key"])
    assert made.events.count() == 1
    is_problem(call("POST", "/tasks", task(), Idempotency_Key=mark), 409)
    assert call("GET", f"/tasks/{data['external_key']}").json()["state"] == "ouverte"
    for _ in range(2):
        assert call("DELETE", f"/tasks/{data['external_key']}").json()["state"] == "faite"
    is_problem(call("GET", "/tasks/inconnue"), 404)


def test_a_write_without_key_or_with_bad_fields_saves_nothing(call):
    before = Task.objects.count()
    is_problem(call("POST", "/tasks", task()), 422)
    for change in (
        {"title": "a\x00b"},
        {"due": "demain"},
        {"person": "P99999999"},
        {"url": "javascript:x"},
        {"title": ""},
    ):
        is_problem(call("POST", "/tasks", task(**change), Idempotency_Key=uuid.uuid4().hex), 422)
    is_problem(call("POST", "/tasks", [], Idempotency_Key=uuid.uuid4().hex), 422)
    assert Task.objects.count() == before


def test_a_corrected_write_may_use_the_key_of_the_refused_one(call):
    mark = uuid.uuid4().hex
    is_problem(call("POST", "/tasks", task(person="P99999999"), Idempotency_Key=mark), 422)
    assert call("POST", "/tasks", task(), Idempotency_Key=mark).status_code == 201


def test_an_outage_is_a_problem_too(call, monkeypatch):
    def away(*_args, **_kwargs):
        raise OperationalError from psycopg.errors.AdminShutdown("57P01")

    monkeypatch.setattr("sias.api.resources.services.push", away)
    answer = call("POST", "/tasks", task(), Idempotency_Key=uuid.uuid4().hex)
    is_problem(answer, 503)
    assert answer["Retry-After"]


def test_a_defect_is_a_problem_without_details(call, monkeypatch):
    monkeypatch.setattr("sias.api.resources.services.push", lambda *_a, **_k: 1 / 0)
    body = is_problem(call("POST", "/tasks", task(), Idempotency_Key=uuid.uuid4().hex), 500)
    assert "division" not in json.dumps(body)


def test_the_description_is_for_agents(client):
    assert client.get("/api/v1/openapi.json").json()["info"]["title"] == "SIAS"
    client.logout()
    assert client.get("/api/v1/openapi.json").status_code == 302


schema = schemathesis.openapi.from_dict(core.api.get_openapi_schema(path_prefix="/api/v1/"))
schema.app = application


@schema.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_nothing_that_is_sent_makes_a_5xx(case, key):
    case.headers = {**(case.headers or {}), "Authorization": f"Bearer {key}", "Host": "testserver"}
    answer = case.call()
    assert answer.status_code < 500, (case.as_curl_command(), answer.text)
