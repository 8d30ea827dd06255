"""The household file: tabs, moves with everything that concerns a person, undo, keys of other systems."""

import uuid
from datetime import date

import pytest
from django.utils import timezone
from sias.habilitations.models import ConfidentialPerson
from sias.history.models import Change
from sias.households.models import ExternalKey, Move
from sias.repertoire.models import Household, Membership, Person
from sias.repertoire.services import new_household

from tests.conftest import sign_in
from tests.test_persons import text


def since(person: Person, day: date) -> Household:
    stay = person.memberships.get(until=None)
    Membership.objects.filter(pk=stay.pk).update(since=day)
    return stay.household


def move_form(person: Person, **changes: object) -> dict:
    return {
        "persons": [str(person.pk)],
        "target": "",
        "effective_on": f"{timezone.localdate():%d/%m/%Y}",
        "reason": "separation",
        "comment": "",
        "idempotency_key": uuid.uuid4().hex,
    } | changes


@pytest.fixture
def moved(client, person):
    """A person who left for a new household today."""
    source = since(person, date(2024, 1, 1))
    response = client.post(f"{source.get_absolute_url()}deplacer/", move_form(person))
    assert response.status_code == 302
    return Move.objects.get(source=source)


@pytest.mark.parametrize("slug", ["", "identite/", "suivi/"])
def test_every_tab_says_that_all_is_saved_and_where_one_is(client, person, slug):
    address = person.memberships.get().household.get_absolute_url()
    page = text(client.get(f"{address}{slug}"))
    assert "Toutes les informations sont sauvegardées. Dernière mise à jour le" in page
    assert "par Alex Agent" in page
    assert "Femme seule, 1 adulte – 0 mineur" in page
    assert page.count('aria-current="page"') == 1


def test_an_unknown_tab_is_not_found(client, person):
    assert client.get(f"{person.memberships.get().household.get_absolute_url()}rien/").status_code == 404


def test_a_move_closes_one_stay_and_opens_the_next_on_its_day(moved, person):
    stays = list(person.memberships.order_by("since").values_list("household_id", "since", "until"))
    today = timezone.localdate()
    assert stays == [
        (moved.source_id, date(2024, 1, 1), today),
        (moved.target_id, today, None),
    ]
    reasons = set(
        Change.objects.filter(person_id=person.pk, table_name="repertoire_membership").values_list("reason", flat=True)
    )
    assert "Séparation" in reasons


def test_a_move_is_told_in_both_households(moved, client):
    for household in (moved.source, moved.target):
        page = text(client.get(f"{household.get_absolute_url()}suivi/"))
        assert "Annuler ce changement" in page
        assert "séparation" in page


def test_a_move_is_undone(moved, client, person):
    response = client.post(f"/changements/{moved.pk}/annuler/", {"idempotency_key": uuid.uuid4().hex})
    assert response.status_code == 302
    assert [(stay.household_id, stay.until) for stay in person.memberships.all()] == [(moved.source_id, None)]
    moved.refresh_from_db()
    assert moved.undone_by.username == "agent"
    again = client.post(f"/changements/{moved.pk}/annuler/", {"idempotency_key": uuid.uuid4().hex})
    assert again.status_code == 409
    assert "déjà annulé" in text(again)


def test_a_move_that_another_followed_is_not_undone(moved, client, person):
    form = move_form(person, target=moved.source.number, reason="union")
    assert client.post(f"{moved.target.get_absolute_url()}deplacer/", form).status_code == 302
    response = client.post(f"/changements/{moved.pk}/annuler/", {"idempotency_key": uuid.uuid4().hex})
    assert response.status_code == 409
    assert "encore changé de ménage" in text(response)


def test_a_stay_that_would_last_no_day_is_corrected(client, person):
    source = person.memberships.get().household
    target = new_household()
    form = move_form(person, target=target.number.lower(), reason="erreur")
    assert client.post(f"{source.get_absolute_url()}deplacer/", form).status_code == 302
    assert [stay.household_id for stay in person.memberships.all()] == [target.pk]
    made = Move.objects.get(target=target)
    assert client.post(f"/changements/{made.pk}/annuler/", {"idempotency_key": uuid.uuid4().hex}).status_code == 302
    assert [stay.household_id for stay in person.memberships.all()] == [source.pk]


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"persons": []}, 422, "au moins une personne"),
        ({"persons": ["999999999"]}, 422, "Sélectionnez un choix valide"),
        ({"effective_on": "31/02/2026"}, 422, "Cette date n'existe pas"),
        ({"effective_on": "01/01/2199"}, 409, "dans le futur"),
        ({"effective_on": "01/01/2001"}, 409, "que depuis le"),
        ({"target": "F99999999"}, 422, "Aucun ménage ne porte le numéro F99999999"),
        ({"reason": ""}, 422, "obligatoire"),
        ({"reason": "autre", "comment": ""}, 422, "Précisez le motif"),
    ],
)
def test_a_refused_move_says_why_and_keeps_what_was_typed(client, person, changes, status, message):
    source = since(person, date(2024, 1, 1))
    form = move_form(person, comment="dit au téléphone") | changes
    response = client.post(f"{source.get_absolute_url()}deplacer/", form)
    page = text(response).replace("&#x27;", "'")
    assert response.status_code == status
    assert message in page
    assert f'value="{form["effective_on"]}"' in page
    assert f'value="{form["comment"]}"' in page or not form["comment"]
    assert not Move.objects.filter(source=source).exists()


def test_the_second_of_two_movers_is_told(client, person):
    source = since(person, date(2024, 1, 1))
    page = f"{source.get_absolute_url()}deplacer/"
    child = Person.objects.get(pk=person.pk)
    assert sign_in("autre").post(page, move_form(child)).status_code == 302
    response = client.post(page, move_form(person))
    assert response.status_code == 422  # the page's choices are the members of now


def test_the_key_of_another_system_leads_to_the_household(client, person):
    household = person.memberships.get().household
    key = uuid.uuid4().hex
    ExternalKey.objects.create(household=household, system="DELTA", key=key)
    assert client.get(f"/foyers/cle/delta/{key}/")["Location"] == household.get_absolute_url()
    assert key in text(client.get(f"{household.get_absolute_url()}identite/"))


def test_history_names_nobody_who_is_closed_to_its_reader(moved, client, person):
    ConfidentialPerson.objects.create(person=person, reason="Violences", set_by=person.updated_by)
    client.get("/repertoire/")  # shows the messages of what was done before
    page = text(client.get(f"{moved.source.get_absolute_url()}suivi/"))
    assert "fiche non accessible" in page
    assert person.birth_name not in page
