"""Third parties shared with Finance."""

import json
import uuid
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone
from sias.tasks.models import Task
from sias.thirdparties import bank, services
from sias.thirdparties.models import ThirdParty

from tests.conftest import manage, sign_in
from tests.test_api import caller, is_problem

IBAN, OTHER_IBAN = "FR1420041010050500013M02606", "DE89370400440532013000"


def luhn(digits: str) -> str:
    """Return the digit that makes a SIRET of 13 digits valid."""
    for last in "0123456789":
        total = 0
        for place, digit in enumerate(reversed(digits + last)):
            value = int(digit) * (1 + place % 2)
            total += value - 9 * (value > 9)
        if total % 10 == 0:
            return last
    raise AssertionError


def new_siret() -> str:
    """Return a valid SIRET that no other test has: a SIREN that is valid too."""
    siren = f"{uuid.uuid4().int % 10**8:08d}"
    siren += luhn(siren)
    start = siren + "0001"
    return start + luhn(start)


def form(**changes: str) -> dict:
    return {
        "name": "Office d'habitat",
        "siret": new_siret(),
        "person": "",
        "address": "1 rue X",
        "iban": IBAN,
        "idempotency_key": uuid.uuid4().hex,
        **changes,
    }


@pytest.fixture
def made(client):
    data = form()
    assert client.post("/tiers/nouveau/", data).status_code == 302
    return ThirdParty.objects.get(siret=data["siret"])


@pytest.fixture(scope="module")
def finance(database):
    scopes = ["third-parties:read", "third-parties:validate"]
    done = manage("create_partner", "Finances", "--per-minute", "10000", "--scopes", *scopes, user="sias_app")
    return caller(done.stdout.strip())


@pytest.mark.parametrize("number", ["73282932000074", "35600000000048", "35600000049837"])
def test_a_siret_is_valid_la_poste_included(number):
    assert bank.siret_problem(number) == ""


@pytest.mark.parametrize("number", ["73282932000079", "35600000049838", "7328293200007", "7328293200007A", ""])
def test_a_wrong_siret_is_told(number):
    assert bank.siret_problem(number)


@pytest.mark.parametrize("number", [IBAN[:-1] + "7", "FR14", "XX00", "é", "GB82WEST12345698765433"])
def test_a_wrong_iban_is_told(number):
    assert bank.iban_problem(number)


def test_an_iban_is_encrypted_found_and_masked(client, made):
    assert IBAN.encode() not in bytes(made.iban_encrypted)
    assert made.iban == IBAN
    page = client.get(made.get_absolute_url()).content.decode()
    assert IBAN not in page
    assert "FR14 •••• 606" in page
    assert "À valider" in client.get("/tiers/", {"q": made.siret}).content.decode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"siret": "73282932000079"}, "clé de ce SIRET"),
        ({"siret": ""}, "Indiquez le SIRET"),
        ({"siret": "", "person": "P99999999"}, "Aucune personne"),
        ({"iban": IBAN[:-1] + "7"}, "IBAN"),
        ({"iban": ""}, "Indiquez l"),
        ({"name": ""}, "obligatoire"),
    ],
)
def test_a_refused_form_says_why_and_saves_nothing(client, change, words):
    before = ThirdParty.objects.count()
    answer = client.post("/tiers/nouveau/", form(**change))
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert ThirdParty.objects.count() == before


def test_one_siret_is_one_third_party(client, made):
    answer = client.post("/tiers/nouveau/", form(siret=made.siret))
    assert answer.status_code == 422
    assert made.get_absolute_url() in answer.content.decode()


def test_nothing_is_paid_before_finance_validated_and_again_after_a_new_iban(client, made):
    with pytest.raises(services.NotPayableError, match="à valider"):
        services.require_payable(made)
    decision = {"version": made.version, "decision": "valider", "number": f"T{made.pk}"}
    path = f"/tiers/{made.pk}/decision/"
    refused = client.post(path, decision | {"idempotency_key": uuid.uuid4().hex})
    assert refused.status_code == 403
    assert "un autre agent" in refused.content.decode()
    other = sign_in("autre")
    assert other.post(path, decision | {"idempotency_key": uuid.uuid4().hex}).status_code == 302
    assert services.require_payable(made) == f"T{made.pk}"
    assert Task.objects.get(external_key=f"tiers:{made.pk}:1").state == Task.State.DONE
    change = form(siret=made.siret, iban=OTHER_IBAN, version=made.version)
    assert client.post(f"/tiers/{made.pk}/modifier/", change).status_code == 302
    with pytest.raises(services.NotPayableError):
        services.require_payable(made)
    assert Task.objects.get(external_key=f"tiers:{made.pk}:2").open
    stale = client.post(f"/tiers/{made.pk}/modifier/", change | {"idempotency_key": uuid.uuid4().hex, "name": "Gardé"})
    assert stale.status_code == 409
    assert "Gardé" in stale.content.decode()
    assert other.post(path, decision | {"idempotency_key": uuid.uuid4().hex}).status_code == 409


def test_an_address_alone_needs_no_new_validation(client, made):
    services.decide(made.pk, made.version, get_user_model().objects.get(username="autre"), number=f"A{made.pk}")
    change = form(siret=made.siret, address="2 rue Y", iban="", version=made.version)
    assert client.post(f"/tiers/{made.pk}/modifier/", change).status_code == 302
    assert services.require_payable(made) == f"A{made.pk}"


@pytest.mark.parametrize(
    ("data", "words"), [({"decision": "valider"}, "numéro"), ({"decision": "refuser"}, "pourquoi"), ({}, "Choisissez")]
)
def test_a_decision_says_its_number_or_its_reason(made, data, words):
    answer = sign_in("autre").post(
        f"/tiers/{made.pk}/decision/", {"version": made.version, "idempotency_key": uuid.uuid4().hex, **data}
    )
    assert answer.status_code == 422
    assert words in answer.content.decode()


def test_finance_decides_through_the_api_once(finance, made):
    rows = finance("GET", f"/third-parties?after={made.pk - 1}").json()
    assert rows[0]["iban"] == IBAN
    data, mark = {"version": made.version, "finance_number": f"F{made.pk}"}, uuid.uuid4().hex
    path = f"/third-parties/{made.pk}/decision"
    first = finance("POST", path, data, Idempotency_Key=mark)
    assert first.json()["state"] == "valide", first.content
    assert finance("POST", path, data, Idempotency_Key=mark).json() == first.json()
    assert finance("POST", path, data, Idempotency_Key=uuid.uuid4().hex).json()["state"] == "valide"
    is_problem(finance("POST", path, data | {"version": 9}, Idempotency_Key=uuid.uuid4().hex), 409)
    is_problem(finance("POST", path, {"version": 1}, Idempotency_Key=uuid.uuid4().hex), 422)
    is_problem(
        finance("POST", "/third-parties/9223372036854775807/decision", data, Idempotency_Key=uuid.uuid4().hex), 404
    )


def test_what_is_not_alike_is_shown(client, finance, made):
    services.decide(made.pk, made.version, get_user_model().objects.get(username="autre"), number=f"R{made.pk}")
    row = {"number": f"R{made.pk}", "name": "OFFICE D’HABITAT", "siret": made.siret, "iban": OTHER_IBAN}
    unknown = {"number": f"Z{made.pk}", "name": f"Inconnu {made.pk}", "iban": IBAN}
    at = timezone.now()

    def send(*rows: dict, at: object = at):
        body = {"at": at.isoformat(), "rows": rows}
        return finance("POST", "/third-parties/reconciliation", body, Idempotency_Key=uuid.uuid4().hex)

    assert send(row, unknown).json()["changed"] == 2
    assert send(row, unknown).json()["changed"] == 0
    page = client.get("/tiers/rapprochement/").content.decode()
    assert "IBAN différent" in page
    assert f"Inconnu {made.pk}" in page
    older = send(row | {"iban": IBAN}, at=at - timedelta(days=1))
    assert older.json()["changed"] == 0
    assert send(row | {"iban": IBAN}, at=timezone.now()).json()["changed"] == 1
    found = [difference for difference in services.differences() if difference.third_party == made]
    assert found == []
    assert json.loads(send(row | {"iban": "FR00"}).content)["rows"] == [row["number"]]
