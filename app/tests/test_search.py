"""The search of the Répertoire, on 20 000 persons."""

import random
import re
from datetime import date, timedelta

import pytest
from django.db import transaction
from sias.repertoire import duties, names, nir, search, typos
from sias.repertoire.management.commands import bench_search
from sias.repertoire.models import Household, Person
from sias.socle import geography

WANTED = 0.98


def rng(seed: object) -> random.Random:
    return random.Random(seed)  # noqa: S311


def find(words, birth="", commune=None, **options):
    with transaction.atomic():
        return search.find(search.parse(words, birth, commune), **options)


@pytest.fixture(scope="module")
def held_out():
    """Persons drawn with a seed that nothing was tuned on."""
    return bench_search.sample(rng(20260712), 120)


@pytest.mark.parametrize("kind", typos.KINDS)
def test_a_typing_error_in_the_name_is_forgiven(held_out, kind):
    source = rng(kind)
    missed = []
    for person in held_out:
        name = typos.spoil(source, person.usage_norm or person.birth_norm, kind)
        page = find(f"{name} {person.first_norm}", str(person.birth_date.year))
        if person.pk not in {hit.person.pk for hit in page.hits}:
            missed.append((name, str(person)))
    assert len(missed) <= (1 - WANTED) * len(held_out), missed


@pytest.mark.parametrize("question", list(bench_search.QUESTIONS)[:6])
def test_recall_of_each_question_on_the_first_page(held_out, question):
    figures = bench_search.measure(rng(question), held_out, bench_search.QUESTIONS[question])
    assert figures["recall"] >= WANTED


def test_the_exact_person_comes_first(held_out):
    for person in held_out[:40]:
        first = find(f"{person.birth_name} {person.first_name}", f"{person.birth_date:%d/%m/%Y}").hits[0]
        assert (first.person.birth_norm, first.person.first_norm, first.person.birth_date) == (
            person.birth_norm,
            person.first_norm,
            person.birth_date,
        )


def test_either_order_and_either_name_will_do():
    person = Person.objects.exclude(usage_norm="").order_by("id").first()
    for words in (
        f"{person.usage_name} {person.first_name}",
        f"{person.first_name} {person.usage_name}",
        f"{person.birth_name} {person.first_name}",
        f"{person.first_name} {person.birth_name}",
    ):
        assert person.pk in {hit.person.pk for hit in find(words, str(person.birth_date.year)).hits}, words


def test_a_compound_name_is_found_with_or_without_its_space():
    person = Person.objects.filter(birth_name__startswith="DA SILVA").order_by("id").first()
    for words in ("da silva", "dasilva", "DA-SILVA", "da sylva"):
        page = find(f"{words} {person.first_name}", str(person.birth_date.year))
        assert person.pk in {hit.person.pk for hit in page.hits}, words


@pytest.mark.parametrize(
    ("shift", "reason"),
    [
        (0, "date exacte"),
        (200, "date à 1 an près"),
    ],
)
def test_a_birth_date_within_a_year_is_accepted_and_said(shift, reason):
    person = Person.objects.filter(birth_date__month=1, birth_date__day=15).order_by("id").first()
    asked = person.birth_date - timedelta(days=shift)
    page = find(f"{person.birth_name} {person.first_name}", f"{asked:%d/%m/%Y}")
    hit = next(hit for hit in page.hits if hit.person.pk == person.pk)
    assert reason in {words for _, words in hit.reasons}


def test_day_and_month_exchanged_are_understood():
    person = Person.objects.filter(birth_date__day=3, birth_date__month=11).order_by("id").first()
    page = find(f"{person.birth_name} {person.first_name}", f"11/03/{person.birth_date.year}")
    assert ("near", "jour et mois inversés") in page.hits[0].reasons


def test_a_nearer_date_ranks_higher():
    person = Person.objects.order_by("id")[7]
    exact = find(f"{person.birth_name} {person.first_name}", f"{person.birth_date:%d/%m/%Y}").hits[0].score
    near = find(f"{person.birth_name} {person.first_name}", f"{person.birth_date + timedelta(days=100):%d/%m/%Y}")
    assert exact > next(hit.score for hit in near.hits if hit.person.pk == person.pk)


def test_a_date_two_years_off_is_not_an_answer():
    person = Person.objects.order_by("id")[9]
    page = find(f"{person.birth_name} {person.first_name}", f"{person.birth_date + timedelta(days=800):%d/%m/%Y}")
    assert person.pk not in {hit.person.pk for hit in page.hits}


def test_the_commune_restricts_and_yields_when_nobody_is_there():
    metz = geography.find("Metz")
    page = find("muller", commune=metz)
    assert page.hits
    assert {hit.person.commune_id for hit in page.hits} == {metz.code}
    person = Person.objects.exclude(commune_id=metz.code).order_by("id").first()
    page = find(f"{person.birth_name} {person.first_name}", f"{person.birth_date:%d/%m/%Y}", metz)
    assert page.elsewhere
    assert ("note", "autre commune") in page.hits[0].reasons


def test_pages_follow_each_other_without_gap_or_repetition():
    everything = set(Person.objects.filter(birth_norm="SCHMITT").values_list("pk", flat=True))
    everything |= set(Person.objects.filter(usage_norm="SCHMITT").values_list("pk", flat=True))
    seen, cursor, scores = [], "", []
    while True:
        page = find("schmitt", cursor_text=cursor)
        seen += [hit.person.pk for hit in page.hits]
        scores += [hit.score for hit in page.hits]
        cursor = page.next_cursor
        if not cursor or scores[-1] < 1000:
            break
    assert len(seen) == len(set(seen))
    assert everything <= set(seen)
    assert scores == sorted(scores, reverse=True)


def test_a_forged_page_mark_is_ignored():
    assert [hit.person.pk for hit in find("schmitt", cursor_text="forged").hits] == [
        hit.person.pk for hit in find("schmitt").hits
    ]


def test_identifiers_are_recognised():
    person = Person.objects.exclude(nir_index=None).exclude(phone="").order_by("id").first()
    number = person.nir
    for words in (
        number,
        f"{number[0]} {number[1:3]} {number[3:5]} {number[5:7]} {number[7:10]} {number[10:13]} {number[13:]}",
        number[:13],
        person.number,
        person.number.lower(),
        person.phone,
        person.phone_spaced,
    ):
        assert person.pk in {hit.person.pk for hit in find(words).hits}, words
    household = Household.objects.order_by("id").first()
    members = set(household.memberships.filter(until=None).values_list("person_id", flat=True))
    assert {hit.person.pk for hit in find(household.number).hits} == members
    assert nir.problem(number) == ""


@pytest.mark.parametrize(
    ("text", "day", "year"),
    [
        ("12/03/1975", date(1975, 3, 12), 1975),
        ("1975-03-12", date(1975, 3, 12), 1975),
        ("12.3.1975", date(1975, 3, 12), 1975),
        ("12031975", date(1975, 3, 12), 1975),
        ("1975", None, 1975),
        ("03/25/1975", date(1975, 3, 25), 1975),
    ],
)
def test_dates_are_read_as_people_write_them(text, day, year):
    assert search.parse_birth(text) == search.Birth(year, day)


@pytest.mark.parametrize("text", ["", "demain", "99/99/1975", "12/03", "1275"])
def test_what_is_no_date_is_none(text):
    assert search.parse_birth(text) is None


def test_a_date_may_stand_in_the_one_field():
    question = search.parse("muller anne 12/03/1975")
    assert question.words == ["MULLER", "ANNE"]
    assert question.birth == search.Birth(1975, date(1975, 3, 12))


@pytest.mark.parametrize(
    "words",
    [
        "'; DROP TABLE repertoire_person; --",
        "%",
        "100%",
        "\\",
        "{0}",
        "a" * 500,
        "王",
        "- - -",
        "l'",
        "\x00",
        "%s %(n)s",
    ],
)
def test_no_text_breaks_the_search(client, words):
    assert client.get("/repertoire/", {"q": words}).status_code == 200


def test_a_new_person_is_found_at_once_even_misspelt(client, person):
    spoilt = typos.spoil(rng(3), person.birth_norm, "swapped letters")
    page = client.get("/repertoire/", {"q": f"{spoilt} camille"})
    assert person.birth_name in page.content.decode()


def test_an_address_is_a_criterion_of_its_own_and_restricts_names():
    person = Person.objects.exclude(address="").order_by("id").first()
    place = geography.places()[person.commune_id]
    street = re.sub(r"^\d+ ", "", person.address)
    for words, address in (
        ("", person.address),
        ("", street),
        (person.birth_name, street),
        (f"{person.birth_date:%d/%m/%Y}", street),
    ):
        with transaction.atomic():
            page = search.find(search.parse(words, "", place, address), size=1000)
        assert person.pk in {hit.person.pk for hit in page.hits}, (words, address)
        assert all(hit.person.address_norm.startswith(names.street(street)) for hit in page.hits)
        assert {hit.person.commune_id for hit in page.hits} == {place.code}


def test_an_address_without_a_name_is_said_not_to_count(client):
    page = client.get("/repertoire/", {"q": "muller", "adresse": "rue de la"})
    assert "Adresse incomprise" in page.content.decode()
    assert search.parse("muller", "", None, "rue de la").street == ""


def test_the_residents_of_a_street_follow_page_after_page():
    street = re.sub(r"^\d+ ", "", Person.objects.exclude(address="").order_by("id").first().address)
    wanted = Person.objects.filter(
        address_norm__gte=names.street(street), address_norm__lt=names.street(street) + "\x7f"
    )
    seen, cursor = [], ""
    while True:
        with transaction.atomic():
            page = search.find(search.parse("", "", None, street), cursor_text=cursor, size=50)
        seen += [hit.person.pk for hit in page.hits]
        if not (cursor := page.next_cursor):
            break
    assert len(seen) == len(set(seen)) == wanted.count() > 50


def test_someone_with_two_names_that_answer_is_shown_once():
    person = Person.objects.exclude(usage_norm="").order_by("id").first()
    both = Person.objects.filter(usage_norm=person.birth_norm).exclude(birth_norm=person.birth_norm).first()
    seen, cursor = [], ""
    for _ in range(20):
        page = find(both.usage_norm, cursor_text=cursor, size=30)
        seen += [hit.person.pk for hit in page.hits]
        if not (cursor := page.next_cursor):
            break
    assert len(seen) == len(set(seen))


def test_the_compared_address_of_older_rows_is_made_by_the_worker():
    person = Person.objects.exclude(address="").order_by("-id").first()
    Person.objects.filter(pk=person.pk).update(address_norm=None)
    with transaction.atomic():
        done, _more = duties.compare_addresses()
    assert "adresses" in done
    person.refresh_from_db()
    assert person.address_norm == names.street(person.address)
