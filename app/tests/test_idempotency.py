"""The same write sent twice is done once."""

import threading
import uuid

import pytest
from django.db import connections
from sias.platform.models import IdempotencyKey
from sias.repertoire.models import Person

from tests.conftest import sign_in


def count(identity: dict) -> int:
    return Person.objects.filter(birth_name=identity["birth_name"]).count()


def test_a_repetition_gets_the_same_answer_and_saves_nothing(client, identity):
    first = client.post("/personnes/nouvelle/", identity)
    again = client.post("/personnes/nouvelle/", identity)
    assert (again.status_code, again["Location"]) == (first.status_code, first["Location"])
    assert again["Idempotent-Replay"] == "true"
    assert "Idempotent-Replay" not in first
    assert count(identity) == 1


def test_a_repetition_writes_so_that_its_commit_waits_for_the_other_room(client, identity):
    client.post("/personnes/nouvelle/", identity)
    client.post("/personnes/nouvelle/", identity)
    assert IdempotencyKey.objects.get(key=identity["idempotency_key"]).replays == 1


def test_the_key_may_come_in_a_header(client, identity):
    key = identity.pop("idempotency_key")
    for _ in range(2):
        assert client.post("/personnes/nouvelle/", identity, headers={"Idempotency-Key": key}).status_code == 302
    assert count(identity) == 1


def test_twins_sent_at_the_same_moment_are_one(identity):
    answers = []

    def send() -> None:
        client = sign_in()
        barrier.wait()
        response = client.post("/personnes/nouvelle/", identity)
        answers.append((response.status_code, response.get("Location")))
        connections.close_all()

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 4
    assert len(set(answers)) == 1
    assert count(identity) == 1


def test_a_key_that_served_for_something_else_is_refused(client, identity):
    client.post("/personnes/nouvelle/", identity)
    response = client.post("/personnes/nouvelle/", identity | {"first_names": "Dominique"})
    assert response.status_code == 409
    assert count(identity) == 1


def test_each_agent_has_keys_of_his_own(client, identity):
    client.post("/personnes/nouvelle/", identity)
    other = identity | {"first_names": "Dominique"}
    assert sign_in("autre").post("/personnes/nouvelle/", other).status_code == 302


@pytest.mark.parametrize("key", ["", "court", "x" * 101, "avec espace", "é" * 10])
def test_a_write_without_a_proper_key_is_refused(client, identity, key):
    assert client.post("/personnes/nouvelle/", identity | {"idempotency_key": key}).status_code == 400
    assert count(identity) == 0


def test_a_refused_form_does_not_use_its_key_up(client, identity):
    key = uuid.uuid4().hex
    client.post("/personnes/nouvelle/", identity | {"idempotency_key": key, "birth_date": "non"})
    assert not IdempotencyKey.objects.filter(key=key).exists()
