"""History: every change is recorded by the database, and the past can be shown."""

from datetime import datetime, timedelta

import psycopg
import pytest
from django.db import connection, transaction
from django.db.utils import ProgrammingError
from django.utils import timezone
from sias.history import past
from sias.history.context import because
from sias.history.models import Change
from sias.repertoire import relations
from sias.repertoire.models import Household, Membership, Person

from tests.conftest import PERSONS
from tests.test_persons import edit_form, text


def changes(**which):
    return list(Change.objects.filter(**which).order_by("id"))


def test_an_edit_is_told_as_who_what_when_before_and_after(client, person, identity):
    client.post(f"{person.get_absolute_url()}modifier/", edit_form(person, identity, address="2 rue Serpenoise"))
    change = changes(person_id=person.pk, table_name="repertoire_person", operation="U")[-1]
    assert (change.before["address"], change.after["address"]) == ("1 rue des Clercs", "2 rue Serpenoise")
    assert set(change.after) == {"address", "version"}
    assert change.agent.username == "agent"
    assert change.request
    assert change.origin.startswith("sias_app sias@")
    page = text(client.get(f"{person.get_absolute_url()}historique/"))
    for words in (
        "Alex Agent",
        "Adresse",
        "1 rue des Clercs",
        "2 rue Serpenoise",
        f"{timezone.localtime(change.at):%d/%m/%Y %H:%M}",
    ):
        assert words in page


def test_a_national_identifier_is_never_shown_by_history(client, identity):
    taken = Person.objects.exclude(nir_index=None).order_by("-id").first()
    number = taken.nir
    Person.objects.filter(pk=taken.pk).update(nir_encrypted=None, nir_index=None)
    page = text(client.get(f"{taken.get_absolute_url()}historique/"))
    assert "(masqué)" in page
    assert number[:13] not in page
    assert taken.nir_encrypted.hex() not in page
    taken.save()


def test_raw_sql_is_recorded_with_its_role(cluster, person):
    cluster.sql("UPDATE repertoire_person SET phone = '0387000000' WHERE id = %s", [person.pk])
    change = changes(person_id=person.pk, table_name="repertoire_person")[-1]
    assert change.after == {"phone": "0387000000"}
    assert change.agent_id is None
    assert change.origin.startswith("postgres ")


def test_an_update_that_changes_nothing_is_none(cluster, person):
    before = Change.objects.count()
    cluster.sql("UPDATE repertoire_person SET phone = phone, updated_at = now() WHERE id = %s", [person.pk])
    assert Change.objects.count() == before


def test_a_reason_belongs_to_its_block_and_its_transaction(person):
    with because("essai"):
        Person.objects.filter(pk=person.pk).update(phone="0387000001")
    Person.objects.filter(pk=person.pk).update(phone="0387000002")
    assert [row.reason for row in changes(person_id=person.pk, operation="U")][-2:] == ["essai", ""]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE history_change SET reason = 'x'",
        "DELETE FROM history_change",
        "INSERT INTO history_change (operation, table_name, request, reason, origin, row_id) VALUES ('I','t','','','','')",
        "TRUNCATE history_change",
        "ALTER TABLE history_change DISABLE TRIGGER ALL",
        "ALTER TABLE repertoire_person DISABLE TRIGGER history",
    ],
)
def test_the_application_can_neither_write_nor_bend_history(statement):
    with pytest.raises(ProgrammingError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_even_the_owner_does_not_change_what_was_recorded(cluster, person):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append only"):
        cluster.sql("UPDATE history_change SET reason = 'x' WHERE person_id = %s", [person.pk])


def test_a_loaded_population_is_one_line_of_history():
    loads = changes(operation="L")
    assert [(row.table_name, row.reason, row.after["personnes"]) for row in loads] == [
        ("repertoire_person", "import", PERSONS)
    ]


def test_whatever_concerns_a_person_or_a_household_is_under_history(cluster):
    """A table that points at one of them is tracked; what is not is a log of its own, named here with its reason."""
    exempt = {
        "households_move": "a log itself: made, undone, by whom",
        "households_move_persons": "part of the move",
        "tasks_task": "keeps its own events",
        "notes_draft": "what its author is still typing, read by nobody else",
    }
    tracked = {
        table for (table,) in cluster.sql("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'history'")
    }
    pointing = {
        relation.related_model._meta.db_table
        for target in (Person, Household)
        for relation in target._meta.get_fields(include_hidden=True)
        if relation.auto_created and not relation.concrete and not relation.many_to_many
    }
    assert pointing - tracked - exempt.keys() == set()


@pytest.mark.parametrize("target", [Person, Household])
def test_every_relation_to_a_person_or_household_is_handled_by_merges(target):
    assert relations.unhandled(target) == []


def test_a_row_is_found_as_it_was(person):
    before = datetime.now(tz=timezone.get_current_timezone())
    Person.objects.filter(pk=person.pk).update(phone="0387999999")
    Person.objects.filter(pk=person.pk).update(phone="0387888888", address="ailleurs")
    (row,) = past.rows_at(Person, before, id=person.pk)
    assert (row["phone"], row["address"]) == ("", "1 rue des Clercs")
    assert past.rows_at(Person, before - timedelta(days=1), id=person.pk) == []


def test_a_household_is_shown_as_it_was_on_a_day(cluster, client):
    stay = Membership.objects.filter(until=None).select_related("person", "household").order_by("id").first()
    former, place = stay.person.phone, stay.household
    cluster.sql("UPDATE repertoire_person SET phone = '0387777777' WHERE id = %s", [stay.person_id])
    page = text(client.get(f"{place.get_absolute_url()}etat/", {"le": "24/11/2026"}))
    assert "0387777777" not in page.replace(" ", "")
    assert stay.person.first_names in page
    if former:
        assert stay.person.phone_spaced in page
    now = text(client.get(f"{place.get_absolute_url()}etat/", {"le": f"{timezone.localdate():%d/%m/%Y}"}))
    assert "03 87 77 77 77" in now


@pytest.mark.parametrize(
    ("day", "message"), [("31/02/2026", "existe pas"), ("01/01/2199", "dans le futur"), ("", "Indiquez une date")]
)
def test_an_impossible_day_of_the_past_is_explained_and_kept(client, person, day, message):
    address = person.memberships.get().household.get_absolute_url()
    response = client.get(f"{address}etat/", {"le": day})
    assert response.status_code == 422
    assert message in text(response).replace("&#x27;", "'")
    assert f'value="{day}"' in text(response)
