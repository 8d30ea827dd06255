"""Duplicates: found and scored, decided and remembered, merged over every relation and separated again."""

import uuid
from datetime import date

import pytest
from django.utils import timezone
from sias.crossdomain.models import Involvement
from sias.documents.models import Document
from sias.duplicates import detection, merging
from sias.duplicates.detection import POSSIBLE, PROBABLE, Side, score
from sias.duplicates.models import Candidate, Kind, Merge
from sias.evaluations.models import Evaluation
from sias.evaluations.services import situation
from sias.history.models import Change
from sias.households.models import ExternalKey
from sias.notes.models import Note
from sias.repertoire.models import Household, Membership, Person
from sias.tasks.models import Task

from tests.conftest import sign_in
from tests.test_persons import text


def key() -> dict:
    return {"idempotency_key": uuid.uuid4().hex}


def make(client, identity, **changes: object) -> Person:
    number = max(Person.objects.values_list("pk", flat=True), default=0)
    form = identity | key() | changes
    assert client.post("/personnes/nouvelle/", form).status_code == 302
    return Person.objects.get(pk__gt=number)


@pytest.fixture
def twins(client, identity):
    """One person, entered twice with a typing error."""
    return make(client, identity, phone="0387101010"), make(
        client, identity, birth_name=identity["birth_name"][:-1] + "Z", usage_name="AUTRE", phone=""
    )


def candidate(left, right) -> Candidate:
    one, other = sorted((left.pk, right.pk))
    kind = Kind.PERSON if isinstance(left, Person) else Kind.HOUSEHOLD
    return Candidate.objects.get(kind=kind, left=one, right=other)


def side(**changes: object) -> Side:
    return Side(
        **{
            "id": 1, "birth_norm": "SCHNEIDER", "usage_norm": "", "first_norm": "CHRISTIANE", "birth_date": date(1960, 3, 7),
            "sex": "F", "phone": "", "address": "", "commune": None, "nir": None,
        } | changes
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "least", "most"),
    [
        ({}, 100, 100),
        ({"birth_norm": "SCHNAIDER"}, PROBABLE, 99),
        ({"birth_norm": "MULLER", "usage_norm": "SCHNEIDER"}, PROBABLE, 100),
        ({"birth_date": date(1960, 7, 3)}, PROBABLE, 99),
        ({"birth_date": date(1960, 3, 17)}, POSSIBLE, PROBABLE - 1),
        ({"birth_date": date(1961, 3, 7)}, POSSIBLE, PROBABLE - 1),
        ({"first_norm": "MARTINE"}, 0, 50),  # twins
        ({"first_norm": "CHRISTIAN", "sex": "M"}, 0, POSSIBLE - 1),
        ({"birth_date": date(1987, 1, 30)}, 0, POSSIBLE - 1),
        ({"birth_norm": "WEBER"}, 0, POSSIBLE - 1),
    ],
)
def test_two_persons_are_scored_as_a_human_would(changes, least, most):
    points, reasons = score(side(), side(id=2, **changes))
    assert least <= points <= most, (points, reasons)


def test_two_different_national_identifiers_speak_against(twins):
    points, reasons = score(side(nir=b"1"), side(nir=b"2"))
    assert points < POSSIBLE
    assert "NIR différents" in reasons


def test_a_second_entry_of_a_person_is_found_at_once_and_shown(client, twins):
    found = candidate(*twins)
    assert found.score >= POSSIBLE
    assert f"/doublons/{found.pk}/" in text(client.get(twins[1].get_absolute_url()))
    page = text(client.get(f"/doublons/{found.pk}/"))
    assert twins[0].number in page
    assert twins[1].number in page


def test_the_nightly_round_finds_them_too_and_a_decision_lasts(client, twins):
    found = candidate(*twins)
    form = {"motif": "Cousines, vues ensemble"} | key()
    assert client.post(f"/doublons/{found.pk}/ecarter/", form).status_code == 302
    assert detection.detect(1980) >= 1
    found.refresh_from_db()
    assert (found.state, found.decided_by.username) == (Candidate.State.DISMISSED, "agent")
    assert f"/doublons/{found.pk}/" not in text(client.get("/doublons/"))
    assert Change.objects.filter(table_name="duplicates_candidate", row_id=str(found.pk), operation="U").exists()
    Candidate.objects.filter(pk=found.pk).delete()
    detection.detect(1980)
    assert candidate(*twins).state == Candidate.State.OPEN


def test_a_decision_needs_its_reason(client, twins):
    found = candidate(*twins)
    response = client.post(f"/doublons/{found.pk}/ecarter/", {"motif": " "} | key())
    assert response.status_code == 422
    assert "Dites pourquoi" in text(response)


def merge_form(kept: Person, gone: Person, **changes: object) -> dict:
    return {
        "garder": str(kept.pk),
        f"version-{kept.pk}": kept.version,
        f"version-{gone.pk}": gone.version,
        "menage": str(kept.pk),
        "motif": "saisie en double",
    } | key() | changes  # fmt: skip


def rows_about(person: Person) -> dict[str, object]:
    """One row of every kind about a person."""
    household = person.memberships.get(until=None).household
    today = timezone.localdate()
    return {
        "document": Document.objects.create(
            person=person, name="a.pdf", content_type="application/pdf", size=1, sha256="0" * 64, check_state="ok"
        ),
        "note": Note.objects.create(
            person=person, household=household, kind="note", visibility="partagee", happened_on=today, body="x"
        ),
        "task": Task.objects.create(person=person, kind="x", title="x", service="UTAS"),
        "involvement": Involvement.objects.create(
            person=person, domain="x", reference=uuid.uuid4().hex, status="x", since=today
        ),
    }


def test_a_merge_keeps_everything_and_is_undone_to_the_last_row(client, twins):
    kept, gone = twins
    rows = rows_about(gone)
    former = {
        item.pk: (item.household_id, item.since, item.until) for item in Membership.objects.filter(person__in=twins)
    }
    found = candidate(*twins)
    form = merge_form(kept, gone, **{"champ-usage_name": str(gone.pk)})
    response = client.post(f"/doublons/{found.pk}/fusionner/", form)
    assert response["Location"] == kept.get_absolute_url()
    kept.refresh_from_db()
    assert (kept.usage_name, kept.phone) == ("AUTRE", "0387101010")
    assert not Person.objects.filter(pk=gone.pk).exists()
    for row in rows.values():
        row.refresh_from_db()
        assert row.person_id == kept.pk
    assert Membership.objects.filter(person=kept).count() == 1
    assert client.get(gone.get_absolute_url())["Location"] == kept.get_absolute_url()
    found.refresh_from_db()
    assert found.state == Candidate.State.MERGED
    made = Merge.objects.get(absorbed=gone.pk)
    assert f"/fusions/{made.pk}/annuler/" in text(client.get("/fusions/"))

    response = client.post(f"/fusions/{made.pk}/annuler/", key())
    assert response["Location"] == gone.get_absolute_url()
    again = Person.objects.get(pk=gone.pk)
    assert {f.attname: getattr(again, f.attname) for f in Person._meta.concrete_fields} == {
        f.attname: getattr(gone, f.attname) for f in Person._meta.concrete_fields
    }
    kept.refresh_from_db()
    assert kept.usage_name == ""
    for row in rows.values():
        row.refresh_from_db()
        assert row.person_id == gone.pk
    now = {item.pk: (item.household_id, item.since, item.until) for item in Membership.objects.filter(person__in=twins)}
    assert now == former
    assert candidate(*twins).state == Candidate.State.OPEN


def test_the_agent_says_whose_household_counts(client, twins):
    kept, gone = twins
    theirs = gone.memberships.get().household_id
    form = merge_form(kept, gone, menage=str(gone.pk))
    assert client.post(f"/doublons/{candidate(*twins).pk}/fusionner/", form).status_code == 302
    assert [stay.household_id for stay in kept.memberships.filter(until=None)] == [theirs]


def test_the_time_before_is_kept_from_the_other_file(client, twins):
    kept, gone = twins
    Membership.objects.filter(person=gone).update(since=date(2020, 1, 1))
    Membership.objects.filter(person=kept).update(since=date(2023, 1, 1))
    client.post(f"/doublons/{candidate(*twins).pk}/fusionner/", merge_form(kept, gone))
    stays = list(kept.memberships.order_by("since").values_list("since", "until"))
    assert stays == [(date(2020, 1, 1), date(2023, 1, 1)), (date(2023, 1, 1), None)]


def test_what_was_edited_since_the_merge_stays(client, twins):
    kept, gone = twins
    form = merge_form(kept, gone, **{"champ-usage_name": str(gone.pk)})
    client.post(f"/doublons/{candidate(*twins).pk}/fusionner/", form)
    Person.objects.filter(pk=kept.pk).update(usage_name="NOUVEAU")
    made = Merge.objects.get(absorbed=gone.pk)
    response = client.post(f"/fusions/{made.pk}/annuler/", key(), follow=True)
    assert "laissés comme ils sont : Nom d'usage" in text(response).replace("&#x27;", "'")
    kept.refresh_from_db()
    assert kept.usage_name == "NOUVEAU"


def test_a_file_edited_meanwhile_is_not_merged_unseen(client, twins, identity):
    kept, gone = twins
    Person.objects.filter(pk=gone.pk).update(version=5)
    response = client.post(f"/doublons/{candidate(*twins).pk}/fusionner/", merge_form(kept, gone))
    page = text(response)
    assert response.status_code == 409
    assert "a été modifié par quelqu&#x27;un d&#x27;autre" in page
    assert 'value="saisie en double"' in page
    assert Person.objects.filter(pk=gone.pk).exists()


def test_merges_are_undone_last_first(client, twins, identity):
    kept, gone = twins
    third = make(client, identity, phone="0387202020")
    first = merging.merge(Kind.PERSON, kept.pk, gone.pk, agent=kept.updated_by)
    second = merging.merge(Kind.PERSON, third.pk, kept.pk, agent=kept.updated_by)
    assert client.get(gone.get_absolute_url())["Location"] == third.get_absolute_url()
    response = client.post(f"/fusions/{first.pk}/annuler/", key())
    assert response.status_code == 409
    assert "annulez-la d&#x27;abord" in text(response)
    for made in (second, first):
        assert client.post(f"/fusions/{made.pk}/annuler/", key()).status_code == 302
    assert Person.objects.filter(pk__in=[kept.pk, gone.pk, third.pk]).count() == 3


def test_a_move_after_the_merge_is_undone_first(client, twins):
    kept, gone = twins
    made = merging.merge(Kind.PERSON, kept.pk, gone.pk, agent=kept.updated_by)
    Membership.objects.filter(person=kept).update(since=date(2020, 1, 1))
    response = client.post(f"/fusions/{made.pk}/annuler/", key())
    assert response.status_code == 409
    assert "a changé de ménage depuis la fusion" in text(response)
    assert not Person.objects.filter(pk=gone.pk).exists()


def test_two_who_merge_at_once_merge_once(client, twins):
    kept, gone = twins
    address = f"/doublons/{candidate(*twins).pk}/fusionner/"
    assert sign_in("autre").post(address, merge_form(kept, gone)).status_code == 302
    assert client.post(address, merge_form(kept, gone)).status_code == 404
    assert Merge.objects.filter(absorbed=gone.pk).count() == 1


# --- households ------------------------------------------------------------------------------------------------------
@pytest.fixture
def households(twins) -> list[Household]:
    return [person.memberships.get().household for person in twins]


def test_households_of_duplicates_are_found(client, twins, households):
    Candidate.objects.filter(pk=candidate(*twins).pk).update(score=PROBABLE)
    detection.detect_households()
    found = candidate(*households)
    assert found.score == 100
    assert f"/doublons/{found.pk}/" in text(client.get("/doublons/?nature=menages"))


def test_the_family_key_of_another_system_survives_merges(client, households, agent):
    """Regression: SI SIAO 3.49.5 of 28 November 2022, 'problème majeur de fusion avec la clé famille DELTA'."""
    kept, gone = households
    keys = [ExternalKey.objects.create(household=place, system="DELTA", key=uuid.uuid4().hex) for place in households]
    made = merging.merge(Kind.HOUSEHOLD, kept.pk, gone.pk, agent=agent)
    for row in keys:
        assert client.get(f"/foyers/cle/delta/{row.key}/")["Location"] == kept.get_absolute_url()
    assert kept.external_keys.count() == 2
    assert client.get(gone.get_absolute_url())["Location"] == kept.get_absolute_url()
    merging.unmerge(made, agent)
    for row, place in zip(keys, households, strict=True):
        assert client.get(f"/foyers/cle/delta/{row.key}/")["Location"] == place.get_absolute_url()


def test_of_two_situations_one_goes_on_and_the_other_is_kept(households, agent):
    kept, gone = households
    mine, theirs = situation(kept, agent), situation(gone, agent)
    made = merging.merge(Kind.HOUSEHOLD, kept.pk, gone.pk, agent=agent)
    theirs.refresh_from_db()
    assert (theirs.household_id, theirs.living, theirs.closed_at is None) == (kept.pk, False, False)
    assert Evaluation.objects.get(household=kept, living=True) == mine
    assert Membership.objects.filter(household=kept, until=None).count() == 2
    merging.unmerge(made, agent)
    theirs.refresh_from_db()
    assert (theirs.household_id, theirs.living) == (gone.pk, True)
    assert Household.objects.get(pk=gone.pk).number == gone.number


# --- by hand ---------------------------------------------------------------------------------------------------------
def test_two_known_files_are_compared_by_number(client, person, identity):
    other = make(client, identity, birth_name="TOUTAUTRENOM", birth_date="01/01/1950")
    form = {"premier": person.number.lower(), "second": other.number} | key()
    response = client.post("/doublons/comparer/", form)
    assert response["Location"] == f"/doublons/{candidate(person, other).pk}/"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [("P99999999", "P00000001", "Aucune fiche ne porte le numéro P99999999"), ("P00000001", "P00000001", "différents")],
)
def test_a_wrong_number_is_named(client, first, second, message):
    response = client.post("/doublons/comparer/", {"premier": first, "second": second} | key())
    assert response.status_code == 422
    assert message in text(response)
    assert f'value="{first}"' in text(response)


def test_a_merge_without_its_choices_is_refused_and_kept(client, twins):
    found = candidate(*twins)
    form = merge_form(*twins) | {"garder": ""}
    response = client.post(f"/doublons/{found.pk}/fusionner/", form)
    assert response.status_code == 422
    assert "Dites quelle fiche est gardée" in text(response)


def test_the_number_of_a_merged_file_leads_to_whoever_took_it_over(client, twins):
    kept, gone = twins
    household = gone.memberships.get(until=None).household
    made = merging.merge(Kind.PERSON, kept.pk, gone.pk, agent=None, reason="même personne")
    page = text(client.get("/repertoire/", {"q": gone.number})).replace("&#x27;", "'")
    assert kept.number in page
    assert f"a repris le dossier {gone.number}, fusionné" in page
    other = kept.memberships.get(until=None).household
    if other.pk != household.pk:
        merging.merge(Kind.HOUSEHOLD, other.pk, household.pk, agent=None, reason="même ménage")
        page = text(client.get("/repertoire/", {"q": household.number}))
        assert kept.number in page
        assert f"son ménage a repris le ménage {household.number}" in page
    assert made.undone_at is None


def test_the_number_of_a_file_that_was_separated_again_is_its_own(client, twins):
    kept, gone = twins
    merging.unmerge(merging.merge(Kind.PERSON, kept.pk, gone.pk, agent=kept.updated_by), kept.updated_by)
    page = text(client.get("/repertoire/", {"q": gone.number}))
    assert gone.number in page
    assert "a repris" not in page
