"""`sias-manage bench_search`: time and recall of the search on the population that is loaded.

Two times per search: in the database (waiting for its answers), which has the objective, and as a whole.
"""

import json
import random
import statistics
import time
from collections.abc import Callable
from datetime import timedelta

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, connections, transaction

from sias.repertoire import search, typos
from sias.repertoire.models import Person

SEED = 2008
# With one typing error, in the database, at the size of the department.
GOAL_P50, GOAL_P95, GOAL_RECALL = 5.0, 12.0, 0.98  # ms, ms, share


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
        parser.add_argument("--check", action="store_true", help="code 4 quand l'objectif d'une faute est manqué")

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
                    f"{name:46} base p50 {figures['database_p50']:6.1f}  p95 {figures['database_p95']:6.1f} ms   "
                    f"total p50 {figures['p50']:6.1f}  p95 {figures['p95']:6.1f} ms   trouvés {figures['recall']:.3f}"
                )
        if options["json"]:
            self.stdout.write(json.dumps(report))
        late = [name for name in ONE_ERROR if not within(report["questions"][name])]
        if options["check"] and late:
            raise CommandError(
                f"Objectif manqué (p50 {GOAL_P50:g} ms, p95 {GOAL_P95:g} ms en base, {GOAL_RECALL:g} trouvés) : "
                + ", ".join(late),
                returncode=4,
            )


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


ONE_ERROR = tuple(name for name in QUESTIONS if name.startswith("faute dans"))


def within(figures: dict) -> bool:
    """Tell whether figures of a question with one typing error meet the objective."""
    return (
        figures["database_p50"] <= GOAL_P50 and figures["database_p95"] <= GOAL_P95 and figures["recall"] >= GOAL_RECALL
    )


def measure(rng: random.Random, persons: list[Person], question: Callable) -> dict:
    """Return p50, p95 and max in ms, in the database and as a whole, and the recall on the first page."""
    times, waits, found = [], [], 0

    def wait(execute: Callable, sql: str, params: object, many: bool, context: dict) -> object:
        asked = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            waits[-1] += (time.perf_counter() - asked) * 1000

    for person in persons:
        words, born = question(rng, person)
        start = time.perf_counter()
        waits.append(0.0)
        with transaction.atomic(), connections["default"].execute_wrapper(wait):
            page = search.find(search.parse(words, born))
        times.append((time.perf_counter() - start) * 1000)
        found += any(hit.person.pk == person.pk for hit in page.hits)
    cuts, database = (statistics.quantiles(kind, n=20) if len(kind) > 1 else kind * 19 for kind in (times, waits))
    return {
        "database_p50": round(database[9], 2),
        "database_p95": round(database[18], 2),
        "p50": round(cuts[9], 2),
        "p95": round(cuts[18], 2),
        "max": round(max(times), 2),
        "recall": round(found / len(persons), 4),
    }
