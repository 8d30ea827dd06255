"""`sias-manage bench_search`: time and recall of the search on the population that is loaded."""

import json
import random
import statistics
import time
from collections.abc import Callable
from datetime import timedelta

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, transaction

from sias.repertoire import search, typos
from sias.repertoire.models import Person

SEED = 2008


class Command(BaseCommand):
    """Draw persons, spoil their names, look for them; recall = found on the first page."""

    help = (
        "Mesure la recherche sur la population chargée : p50, p95 (ms) et part des personnes trouvées en première page."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("--sample", type=int, default=300, help="recherches par question (300)")
        parser.add_argument("--seed", type=int, default=SEED)
        parser.add_argument("--json", action="store_true")

    def handle(self, *_args: object, **options: object) -> None:
        """Do it."""
        rng = random.Random(options["seed"])  # noqa: S311 - a measure
        persons = sample(rng, options["sample"])
        if not persons:
            raise CommandError("Aucune personne : chargez d'abord une population (load_population).")
        report = {"persons": population(), "sample": len(persons), "questions": {}}
        for name, question in QUESTIONS.items():
            figures = measure(rng, persons, question)
            report["questions"][name] = figures
            if not options["json"]:
                self.stdout.write(
                    f"{name:42} p50 {figures['p50']:7.1f} ms  p95 {figures['p95']:7.1f} ms  "
                    f"trouvés {figures['recall']:.3f}"
                )
        if options["json"]:
            self.stdout.write(json.dumps(report))


def population() -> int:
    """Return the number of persons."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM repertoire_person")
        return cursor.fetchone()[0]


def sample(rng: random.Random, size: int) -> list[Person]:
    """Draw persons at random, the same for the same seed and population."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT min(id), max(id) FROM repertoire_person")
        low, high = cursor.fetchone()
    if low is None:
        return []
    wanted = {rng.randint(low, high) for _ in range(size * 2)}
    found = Person.objects.in_bulk(wanted)
    return [found[identity] for identity in sorted(found)][:size]


def _any_typo(rng: random.Random, name: str) -> str:
    return typos.spoil(rng, name, rng.choice(list(typos.KINDS)))


def _last(person: Person) -> str:
    return person.usage_norm or person.birth_norm


def _near(rng: random.Random, person: Person) -> str:
    return (person.birth_date + timedelta(days=rng.randint(-360, 360))).strftime("%d/%m/%Y")


QUESTIONS: dict[str, Callable[[random.Random, Person], tuple[str, str]]] = {
    "nom et prénom exacts, date exacte": lambda _, p: (f"{_last(p)} {p.first_norm}", f"{p.birth_date:%d/%m/%Y}"),
    "faute dans le nom, prénom, année": lambda r, p: (
        f"{_any_typo(r, _last(p))} {p.first_norm}",
        str(p.birth_date.year),
    ),
    "faute dans le prénom, nom, année": lambda r, p: (
        f"{_last(p)} {_any_typo(r, p.first_norm)}",
        str(p.birth_date.year),
    ),
    "faute dans le nom, prénom, date à un an près": lambda r, p: (
        f"{p.first_norm} {_any_typo(r, _last(p))}",
        _near(r, p),
    ),
    "fautes dans nom et prénom, date exacte": lambda r, p: (
        f"{_any_typo(r, _last(p))} {_any_typo(r, p.first_norm)}",
        f"{p.birth_date:%d/%m/%Y}",
    ),
    "nom de naissance, prénom, année": lambda _, p: (f"{p.birth_norm} {p.first_norm}", str(p.birth_date.year)),
    "nom seul (temps)": lambda _, p: (_last(p), ""),
    "prénom seul (temps)": lambda _, p: (p.first_norm, ""),
}


def measure(rng: random.Random, persons: list[Person], question: Callable) -> dict:
    """Return p50, p95 and max in ms, and the recall on the first page."""
    times, found = [], 0
    for person in persons:
        words, born = question(rng, person)
        start = time.perf_counter()
        with transaction.atomic():
            page = search.find(search.parse(words, born))
        times.append((time.perf_counter() - start) * 1000)
        found += any(hit.person.pk == person.pk for hit in page.hits)
    cuts = statistics.quantiles(times, n=20) if len(times) > 1 else times * 19
    return {
        "p50": round(cuts[9], 2),
        "p95": round(cuts[18], 2),
        "max": round(max(times), 2),
        "recall": round(found / len(persons), 4),
    }
