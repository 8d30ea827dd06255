"""Persons and households: pages, forms, and what the database itself refuses."""

import re
import uuid
from datetime import date, timedelta

import psycopg
import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from sias.repertoire.models import Membership, NameForm, Person
from sias.repertoire.services import Composition, new_household

from tests.conftest import sign_in


def text(response) -> str:
    return re.sub(r"\s+", " ", response.content.decode())


def edit_form(person: Person, identity: dict, **changes: object) -> dict:
    return {**identity, "version": person.version, "idempotency_key": uuid.uuid4().hex, **changes}


def test_a_created_person_has_page_household_and_names_in_the_dictionary(client, person):
    page = text(client.get(person.get_absolute_url()))
    assert person.birth_name in page
    assert "Femme seule, 1 adulte – 0 mineur" in page
    assert "14 juillet 1980" in page
    assert NameForm.objects.filter(kind=NameForm.LAST, norm=person.birth_norm).exists()
    assert person.updated_by.username == "agent"


def test_a_person_may_join_an_existing_household(client, person, identity):
    household = person.memberships.get().household
    other = identity | {
        "birth_name": identity["birth_name"] + "B",
        "household": household.number.lower(),
        "birth_date": "01/02/2020",
        "sex": "M",
        "idempotency_key": identity["idempotency_key"] + "b",
    }
    assert client.post("/personnes/nouvelle/", other).status_code == 302
    assert "Femme seule avec enfant, 1 adulte – 1 mineur" in text(client.get(household.get_absolute_url()))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("birth_name", "", "obligatoire"),
        ("birth_name", "--", "au moins une lettre"),
        ("birth_date", "31/02/1980", "31/12/1975"),
        ("birth_date", "01/01/2199", "entre 1900 et"),
        ("nir", "123", "13 caractères"),
        ("phone", "12", "dix chiffres"),
        ("commune", "Strasbourg", "pas en Moselle"),
        ("postal_code", "5", "cinq chiffres"),
        ("household", "F99999999", "Aucun ménage"),
        ("email", "non", "valide"),
    ],
)
def test_a_refused_form_says_why_and_saves_nothing(client, identity, field, value, message):
    before = Person.objects.count()
    response = client.post("/personnes/nouvelle/", identity | {field: value})
    assert response.status_code == 422
    assert message in text(response)
    assert "Rien n'est enregistré" in text(response).replace("&#x27;", "'")
    assert Person.objects.count() == before


def test_a_corrected_form_may_come_back_with_its_key(client, identity):
    assert client.post("/personnes/nouvelle/", identity | {"phone": "1"}).status_code == 422
    assert client.post("/personnes/nouvelle/", identity).status_code == 302
    assert Person.objects.filter(birth_name=identity["birth_name"]).count() == 1


def test_a_number_that_someone_has_is_refused_and_its_holder_named(client, identity):
    holder = Person.objects.exclude(nir_index=None).order_by("id").first()
    response = client.post("/personnes/nouvelle/", identity | {"nir": holder.nir})
    assert response.status_code == 422
    assert holder.number in text(response)


def test_the_page_masks_the_national_identifier(client):
    person = Person.objects.exclude(nir_index=None).order_by("id").first()
    page = text(client.get(person.get_absolute_url()))
    assert person.nir_masked in page
    assert person.nir not in page.replace(" ", "")


def test_an_edit_is_saved_and_the_new_name_searchable(client, person, identity):
    new = identity["birth_name"] + "NEUF"
    assert (
        client.post(f"{person.get_absolute_url()}modifier/", edit_form(person, identity, birth_name=new)).status_code
        == 302
    )
    person.refresh_from_db()
    assert (person.birth_name, person.version) == (new, 2)
    assert new in text(client.get("/repertoire/", {"q": new}))


def test_the_second_of_two_editors_is_told_and_shown_both_values(client, person, identity):
    address = f"{person.get_absolute_url()}modifier/"
    assert sign_in("autre").post(address, edit_form(person, identity, address="2 rue Serpenoise")).status_code == 302
    response = client.post(address, edit_form(person, identity, address="3 place d'Armes"))
    page = text(response).replace("&#x27;", "'")
    assert response.status_code == 409
    assert "Vos modifications ne sont pas enregistrées." in page
    assert "Dominique Autre" in page
    assert "2 rue Serpenoise" in page
    assert page.count("3 place d'Armes") == 2  # in the comparison and still in the field
    assert 'name="version" value="2"' in page
    person.refresh_from_db()
    assert person.address == "2 rue Serpenoise"


def test_an_edit_without_its_version_is_refused(client, person, identity):
    form = edit_form(person, identity)
    del form["version"]
    assert client.post(f"{person.get_absolute_url()}modifier/", form).status_code == 422


def test_nobody_is_in_two_households_at_once(person):
    with pytest.raises(IntegrityError, match="membership_one_household"), transaction.atomic():
        Membership.objects.create(
            person=person, household=new_household(), since=date(2020, 1, 1), role="A", until=date(2199, 1, 1)
        )


def test_one_household_may_follow_another_without_a_day_between(person):
    today = date(2026, 6, 1)
    first = person.memberships.get()
    with transaction.atomic():
        Membership.objects.filter(pk=first.pk).update(since=today - timedelta(days=400), until=today)
        Membership.objects.create(person=person, household=new_household(), since=today, role="A")
    assert person.memberships.count() == 2


def test_nobody_is_in_no_household(person):
    with pytest.raises(IntegrityError, match="in no household"), transaction.atomic():
        person.memberships.all().delete()
    assert person.memberships.count() == 1


def test_raw_sql_obeys_the_same_rule(cluster, person):
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
        cluster.sql("UPDATE repertoire_membership SET until = since + 1 WHERE person_id = %s", [person.pk])


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ([("F", 40)], "Femme seule, 1 adulte – 0 mineur"),
        ([("M", 40)], "Homme seul, 1 adulte – 0 mineur"),
        ([("M", 40), ("F", 5), ("F", 3)], "Homme seul avec enfants, 1 adulte – 2 mineurs"),
        ([("M", 40), ("F", 41)], "Couple, 2 adultes – 0 mineur"),
        ([("M", 40), ("F", 41), ("M", 2)], "Couple avec enfants, 2 adultes – 1 mineur"),
        ([("M", 40)] * 3, "Plusieurs adultes, 3 adultes – 0 mineur"),
        ([("F", 10)], "Mineur isolé, 0 adulte – 1 mineur"),
        ([], "Ménage vide, 0 adulte – 0 mineur"),
    ],
)
def test_a_household_is_told_in_words(members, sentence):
    today = timezone.localdate()
    found = [
        Membership(person=Person(sex=sex, birth_date=today - timedelta(days=int(age * 365.25) + 5)))
        for sex, age in members
    ]
    assert Composition(found).sentence == sentence


# --- two who edit: field by field ------------------------------------------------------------------------------------
def opened(client, person: Person) -> dict:
    """The form as a browser has it."""
    form = client.get(f"{person.get_absolute_url()}modifier/").context["form"]
    values = {name: form[name].value() for name in form.fields}
    values = {name: "" if value is None else value for name, value in values.items()}
    return values | {"birth_date": f"{values['birth_date']:%d/%m/%Y}"}


def send(client, person: Person, form: dict):
    return client.post(f"{person.get_absolute_url()}modifier/", form | {"idempotency_key": uuid.uuid4().hex})


def shown_again(response) -> dict:
    form = response.context["form"]
    return {name: form[name].value() or "" for name in form.fields}


@pytest.fixture
def twice(client, person):
    """Both opened the form; the other one saved first: another address, a telephone."""
    mine, theirs = opened(client, person), opened(sign_in("autre"), person)
    changed = theirs | {"address": "2 rue Serpenoise", "phone": "03 87 11 22 33"}
    assert send(sign_in("autre"), person, changed).status_code == 302
    return mine


def test_what_only_one_of_two_changed_needs_no_choice(client, person, twice):
    response = send(client, person, twice | {"birth_place": "Nancy"})
    page = text(response).replace("&#x27;", "'")
    assert response.status_code == 409
    assert "Repris de sa modification, vous n'y aviez pas touché : Adresse, Téléphone." in page
    assert "choix-" not in page
    assert send(client, person, shown_again(response)).status_code == 302
    person.refresh_from_db()
    assert (person.address, person.phone, person.birth_place) == ("2 rue Serpenoise", "0387112233", "Nancy")


@pytest.mark.parametrize(("choice", "kept"), [("mienne", "3 place d'Armes"), ("autre", "2 rue Serpenoise")])
def test_what_both_changed_is_chosen_field_by_field(client, person, twice, choice, kept):
    response = send(client, person, twice | {"address": "3 place d'Armes"})
    assert response.status_code == 409
    page = text(response).replace("&#x27;", "'")
    assert "Garder la mienne : <strong>3 place d'Armes</strong>" in page
    assert "Prendre l'autre : <strong>2 rue Serpenoise</strong>" in page
    asked = shown_again(response) | {"a-choisir": "address "}
    unchosen = send(client, person, asked)
    assert unchosen.status_code == 409
    assert "Il reste à choisir" in text(unchosen)
    assert "3 place d'Armes" in text(unchosen).replace("&#x27;", "'")
    assert send(client, person, asked | {"choix-address": choice}).status_code == 302
    person.refresh_from_db()
    assert (person.address, person.phone) == (kept, "0387112233")


def test_a_third_edit_meanwhile_is_shown_too_and_nothing_is_overwritten(client, person, twice):
    response = send(client, person, twice | {"address": "3 place d'Armes"})
    asked = shown_again(response) | {"a-choisir": "address ", "choix-address": "mienne"}
    other = sign_in("autre")
    assert send(other, person, opened(other, person) | {"address": "4 en Fournirue"}).status_code == 302
    again = send(client, person, asked)
    assert again.status_code == 409
    assert "4 en Fournirue" in text(again)
    person.refresh_from_db()
    assert person.address == "4 en Fournirue"


@pytest.mark.parametrize("base", ["", "pas du JSON", "[1]", '{"address": 3}'])
def test_a_bent_base_only_asks_more(client, person, twice, base):
    response = send(client, person, twice | {"address": "3 place d'Armes", "base": base})
    assert response.status_code == 409
    assert "Prendre l" in text(response)


def test_a_spelling_that_the_form_corrects_is_no_difference(client, person, twice):
    response = send(client, person, twice | {"phone": "+33 3 87 11 22 33", "birth_name": person.birth_name.lower()})
    assert response.status_code == 409
    assert "choix-" not in text(response)
