"""Which persons, then which households, may be one: blocks in SQL, scores in Python.

Blocks, one year of birth at a time so that no query is long: born the same day with a surname that sounds alike or with
the same first name; the same names and a birth date with one wrong part in the same year, or the same day of another
year. Two thresholds: from PROBABLE on it nearly always is one person, from POSSIBLE on someone must look.
"""

from dataclasses import dataclass
from datetime import date

from django.db import connections

from sias.duplicates.models import Candidate, Kind
from sias.repertoire import names

PROBABLE, POSSIBLE = 92, 78
SHARES = {"last": 0.4, "first": 0.25, "birth": 0.35}
OTHER_FIRST_NAME = 60  # likeness of first names below which two persons born the same day are twins, not one
YEARS_APART = 10

_SIDE = """
  SELECT p.id, p.birth_norm, p.usage_norm, p.first_norm, p.birth_date, p.sex, p.phone, lower(p.address) AS address,
         p.commune_id, p.nir_index, n.phonetic
    FROM repertoire_person p LEFT JOIN repertoire_nameform n ON n.kind = 'N' AND n.norm = p.birth_norm
"""
_COLUMNS = ", ".join(
    f"{side}.{column}"
    for side in "lr"
    for column in (
        "id", "birth_norm", "usage_norm", "first_norm", "birth_date", "sex", "phone", "address", "commune_id", "nir_index",
    )
)  # fmt: skip
# Same day of birth: in a year of a million persons some ten thousand rows, hashed on the day and the name.
_SAME_DAY = """
WITH s AS MATERIALIZED ({side} WHERE p.birth_date >= %(first)s AND p.birth_date < %(end)s)
SELECT {columns} FROM s l JOIN s r ON r.birth_date = l.birth_date AND r.phonetic = l.phonetic AND l.id < r.id
UNION
SELECT {columns} FROM s l JOIN s r ON r.birth_date = l.birth_date AND r.first_norm = l.first_norm AND l.id < r.id
UNION
SELECT {columns} FROM s l JOIN s r ON r.birth_norm = l.birth_norm AND r.first_norm = l.first_norm AND l.id < r.id
   AND r.birth_date <> l.birth_date
   AND (extract(month FROM r.birth_date) = extract(month FROM l.birth_date)
        OR extract(day FROM r.birth_date) = extract(day FROM l.birth_date)
        OR (extract(month FROM r.birth_date) = extract(day FROM l.birth_date)
            AND extract(day FROM r.birth_date) = extract(month FROM l.birth_date)))
"""
_OTHER_YEAR = """
WITH l AS MATERIALIZED ({side} WHERE p.birth_date >= %(first)s AND p.birth_date < %(end)s),
r AS ({side} WHERE p.birth_date >= %(end)s AND p.birth_date < %(far)s)
SELECT {columns} FROM l JOIN r ON r.birth_norm = l.birth_norm AND r.first_norm = l.first_norm
   AND to_char(r.birth_date, 'MMDD') = to_char(l.birth_date, 'MMDD')
"""
# Of one person, through indexes: a millisecond or two when somebody is created.
_ONE = """
WITH l AS MATERIALIZED ({side} WHERE p.id = %(one)s)
SELECT {columns} FROM l CROSS JOIN LATERAL ({side} WHERE p.birth_date = l.birth_date AND p.id <> l.id
   AND (p.first_norm = l.first_norm OR n.phonetic = l.phonetic)) r
UNION
SELECT {columns} FROM l CROSS JOIN LATERAL ({side} WHERE p.birth_norm = l.birth_norm AND p.first_norm = l.first_norm
   AND p.id <> l.id) r
"""


@dataclass(frozen=True)
class Side:
    """A person, as far as duplicates are concerned."""

    id: int
    birth_norm: str
    usage_norm: str
    first_norm: str
    birth_date: date
    sex: str
    phone: str
    address: str
    commune: str | None
    nir: bytes | None


def _surnames(left: Side, right: Side) -> tuple[int, str]:
    """Return the best likeness of any surname of one with any of the other, and in words which."""
    best, words = 0, "noms proches"
    for mine, mine_words in ((left.birth_norm, ""), (left.usage_norm, "usage")):
        for other, other_words in ((right.birth_norm, ""), (right.usage_norm, "usage")):
            if not (mine and other):
                continue
            found = names.likeness(mine, other, names.phonetic(mine), names.phonetic(other))
            if found > best:
                best, words = found, "même nom" if mine == other else "noms proches"
                if mine_words != other_words:
                    words = "nom d'usage de l'un, de naissance de l'autre"
    return best, words


def _births(left: date, right: date) -> tuple[int, str]:
    if left == right:
        return 100, "même date de naissance"
    if (left.year, left.month, left.day) == (right.year, right.day, right.month):
        return 92, "jour et mois de naissance inversés"
    same = (left.year == right.year) + (left.month == right.month) + (left.day == right.day)
    return (75, "date de naissance : une partie diffère") if same == 2 else (0, "dates de naissance différentes")  # noqa: PLR2004


def score(left: Side, right: Side) -> tuple[int, list[str]]:
    """Return how likely two persons are one, 0-100, and why."""
    last, last_words = _surnames(left, right)
    first = names.likeness(
        left.first_norm, right.first_norm, names.phonetic(left.first_norm), names.phonetic(right.first_norm)
    )
    birth, birth_words = _births(left.birth_date, right.birth_date)
    reasons = [last_words, "même prénom" if left.first_norm == right.first_norm else "prénoms proches", birth_words]
    total = SHARES["last"] * last + SHARES["first"] * first + SHARES["birth"] * birth
    if left.phone and left.phone == right.phone:
        total += 4
        reasons.append("même téléphone")
    if left.address and left.address == right.address and left.commune == right.commune:
        total += 4
        reasons.append("même adresse")
    if left.sex != right.sex:
        total -= 25
        reasons.append("sexe différent")
    if left.nir and right.nir and bytes(left.nir) != bytes(right.nir):
        total -= 30
        reasons.append("NIR différents")
    if first < OTHER_FIRST_NAME:
        total = min(total, 50)  # twins, brothers and sisters
    return max(0, min(100, round(total))), reasons


def _pairs(query: str, **bounds: object) -> list[tuple[Side, Side]]:
    # The primary: what is found is written in the same transaction.
    with connections["default"].cursor() as cursor:
        cursor.execute(query.format(side=_SIDE, columns=_COLUMNS), bounds)
        half = len(cursor.description) // 2
        return [(Side(*row[:half]), Side(*row[half:])) for row in cursor.fetchall()]


def detect(year: int) -> int:
    """Find pairs whose older one was born in a year; return how many are worth a look."""
    first, end = date(year, 1, 1), date(year + 1, 1, 1)
    return _sift(
        _pairs(_SAME_DAY, first=first, end=end)
        + _pairs(_OTHER_YEAR, first=first, end=end, far=date(end.year + YEARS_APART, 1, 1))
    )


def detect_one(person: int) -> int:
    """Find pairs with one person."""
    return _sift(_pairs(_ONE, one=person))


def _sift(pairs: list[tuple[Side, Side]]) -> int:
    found = {}
    for one, other in pairs:
        left, right = sorted((one, other), key=lambda side: side.id)
        points, reasons = score(left, right)
        if points >= POSSIBLE:
            found[left.id, right.id] = Candidate(
                kind=Kind.PERSON, left=left.id, right=right.id, score=points, reasons=reasons
            )
    return keep(list(found.values()))


def keep(found: list[Candidate]) -> int:
    """Put pairs into the queue; those already decided stay decided."""
    known = set(
        Candidate.objects.using("default")
        .filter(kind__in={item.kind for item in found}, left__in=[item.left for item in found])
        .values_list("kind", "left", "right")
    )
    fresh = [item for item in found if (item.kind, item.left, item.right) not in known]
    Candidate.objects.bulk_create(fresh, ignore_conflicts=True, batch_size=1000)
    return len(found)


# Households that may be one: of persons that probably are one, each in another household now.
_HOUSEHOLDS = """
WITH pairs AS (
  SELECT least(a.household_id, b.household_id) AS left, greatest(a.household_id, b.household_id) AS right, count(*) AS same
    FROM duplicates_candidate c
    JOIN repertoire_membership a ON a.person_id = c.left AND a.until IS NULL
    JOIN repertoire_membership b ON b.person_id = c.right AND b.until IS NULL
   WHERE c.kind = 'P' AND c.state = 'ouvert' AND c.score >= %s AND a.household_id <> b.household_id
   GROUP BY 1, 2),
sizes AS (SELECT household_id, count(*) AS members FROM repertoire_membership
           WHERE until IS NULL AND household_id IN (SELECT pairs.left FROM pairs UNION SELECT pairs.right FROM pairs)
           GROUP BY household_id)
SELECT pairs.left, pairs.right, same, l.members, r.members FROM pairs
  JOIN sizes l ON l.household_id = pairs.left JOIN sizes r ON r.household_id = pairs.right
"""


def detect_households() -> int:
    """Find households whose members are probably the same persons."""
    with connections["default"].cursor() as cursor:
        cursor.execute(_HOUSEHOLDS, [PROBABLE])
        rows = cursor.fetchall()
    found = []
    for left, right, same, mine, theirs in rows:
        points = 55 + round(45 * same / max(mine, theirs))
        if points >= POSSIBLE:
            words = f"{same} personne{'s' if same > 1 else ''} en double sur {max(mine, theirs)}"
            found.append(Candidate(kind=Kind.HOUSEHOLD, left=left, right=right, score=points, reasons=[words]))
    return keep(found)
