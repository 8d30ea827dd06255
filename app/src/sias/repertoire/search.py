"""Search of the Répertoire Général.

Two steps. First the dictionary of distinct names answers which names may be meant: one error apart (index on the forms
one letter short), near (trigrams), sounding alike (phonetic code), or beginning so. Then btree indexes find the persons
who bear them, and one query ranks them. A million persons are never scanned; the dictionary holds some tens of
thousands of names.

Numbers in the question are recognised: NIR, telephone, number of person or household, date of birth.
"""

import re
from dataclasses import dataclass, field
from datetime import date, timedelta

from django.core import signing
from django.db import connections

from sias.platform import metrics
from sias.platform.routing import reads
from sias.repertoire import names, nir
from sias.repertoire.models import NameForm, Person
from sias.socle.geography import Place
from sias.socle.text import compact

PAGE = 20
MOST_NAMES = 40  # per word of the question, the best ones
MOST_PERSONS = 5000  # ranked per way of reading the question; beyond it the page says so
WORTH = 60  # likeness of a name below which it is not shown
TRIGRAM = 0.45  # pg_trgm similarity: for long names with two errors; one error is the forms' business
LOOSE, LOOSE_BOTH = 50, 550  # likeness of a name, and of both weighed, when the very day of birth is right
YEAR = timedelta(days=366)
MONTHS = 12

_DATE = re.compile(r"\b(\d{1,2})[/.\- ](\d{1,2})[/.\- ](\d{4})\b|\b(\d{4})-(\d{2})-(\d{2})\b|\b(\d{2})(\d{2})(\d{4})\b")
_YEAR = re.compile(r"^(18[89]\d|19\d\d|20\d\d)$")
_NUMBER = re.compile(r"^[PF]-?\d{8}$")


@dataclass(frozen=True)
class Birth:
    """A date of birth as asked: a day, or a year only."""

    year: int
    day: date | None = None

    @property
    def first(self) -> date:
        """First day to look at."""
        return self.day - YEAR if self.day else date(self.year - 1, 1, 1)

    @property
    def last(self) -> date:
        """Last day to look at."""
        return self.day + YEAR if self.day else date(self.year + 1, 12, 31)

    @property
    def swapped(self) -> date | None:
        """The same date with day and month exchanged, when that is a date."""
        if self.day is None or self.day.day > MONTHS or self.day.day == self.day.month:
            return None
        return date(self.day.year, self.day.day, self.day.month)


@dataclass
class Question:
    """What is looked for."""

    words: list[str] = field(default_factory=list)
    birth: Birth | None = None
    commune: Place | None = None
    nir: str = ""
    phone: str = ""
    number: str = ""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to look for; a year alone would be ten thousand persons."""
        day = self.birth is not None and self.birth.day is not None
        return not (self.words or day or self.nir or self.phone or self.number)


@dataclass
class Hit:
    """A person found, and why."""

    person: Person
    score: int
    reasons: list[tuple[str, str]]  # (strength: exact, near, note; words)


@dataclass
class Page:
    """A page of results."""

    hits: list[Hit]
    next_cursor: str = ""
    capped: bool = False
    elsewhere: bool = False  # nobody in the commune asked: these live elsewhere


def parse_birth(text: str) -> Birth | None:
    """Read `12/03/1975`, `1975-03-12`, `12031975` or `1975`; None when it is no date."""
    text = text.strip()
    if _YEAR.match(text):
        return Birth(int(text))
    match = _DATE.search(text)
    if not match:
        return None
    parts = [int(part) for part in match.groups() if part]
    year, month, day = parts if match.group(4) else parts[::-1]
    for month_, day_ in ((month, day), (day, month)):  # a month above 12 is a day: accept both orders
        try:
            return Birth(year, date(year, month_, day_))
        except ValueError:
            continue
    return None


def parse(text: str, birth: str = "", commune: Place | None = None) -> Question:
    """Understand the one field of the search, and the two that refine it."""
    question = Question(commune=commune, birth=parse_birth(birth) if birth else None)
    text = text.strip()[:200]
    squeezed = nir.clean(text)
    if re.fullmatch(r"[1-478]\d{4}[0-9AB]\d{7}(\d{2})?", squeezed):
        question.nir = squeezed
        return question
    if re.fullmatch(r"0[1-9]\d{8}", squeezed):
        question.phone = squeezed
        return question
    if _NUMBER.match(text.upper()):
        question.number = text.upper().replace("-", "")
        return question
    if question.birth is None and (match := _DATE.search(text)) and (found := parse_birth(match.group())):
        question.birth = found
        text = text[: match.start()] + " " + text[match.end() :]
    words = []
    for word in re.split(r"[\s,;]+", text):
        if question.birth is None and _YEAR.match(word):
            question.birth = Birth(int(word))
        elif compact(word):
            words.append(compact(word))
    question.words = words[:5]
    return question


@dataclass
class Candidates:
    """Names of the dictionary that a word may mean, the best first."""

    asked: str
    scores: dict[str, int]

    @property
    def arrays(self) -> tuple[list[str], list[int]]:
        """Names and scores, as PostgreSQL takes them."""
        return list(self.scores), list(self.scores.values())


# One round trip for every word: names that sound alike, that are one error apart, or that begin so.
_LOOKUP = """
SELECT w.kind, w.word, f.norm, f.phonetic, f.uses
  FROM unnest(%(kinds)s::text[], %(words)s::text[], %(codes)s::text[], %(forms)s::text[]) AS w(kind, word, code, forms)
 CROSS JOIN LATERAL (
   SELECT norm, phonetic, uses FROM repertoire_nameform WHERE kind = w.kind AND phonetic = w.code
   UNION
   SELECT norm, phonetic, uses FROM repertoire_nameform
    WHERE kind = w.kind AND string_to_array(variants, ' ') && string_to_array(w.forms, ' ')
   UNION
   (SELECT norm, phonetic, uses FROM repertoire_nameform
     WHERE kind = w.kind AND norm >= w.word AND norm < w.word || chr(127) ORDER BY uses DESC LIMIT %(most)s)
 ) AS f
"""
# A second one, only for words that no name is: names with several errors. The kind is a literal, not a parameter:
# each kind has its own partial index.
_NEAR = """
SELECT '{kind}', w.word, f.norm, f.phonetic, f.uses FROM unnest(%({kind})s::text[]) AS w(word)
 CROSS JOIN LATERAL (SELECT norm, phonetic, uses FROM repertoire_nameform
                      WHERE kind = '{kind}' AND norm OPERATOR(public.%%) w.word) AS f
"""


def lookup(cursor, wanted: list[tuple[str, str]]) -> dict[tuple[str, str], Candidates]:
    """Ask the dictionary which names each (kind, word) may mean."""
    codes = {word: names.phonetic(word) for _kind, word in wanted}
    scored: dict[tuple[str, str], dict[str, tuple[int, int]]] = {key: {} for key in wanted}

    def take(rows: list[tuple]) -> None:
        for kind, word, norm, code, uses in rows:
            scored[kind, word][norm] = (names.likeness(word, norm, codes[word], code), uses)

    cursor.execute(
        _LOOKUP,
        {
            "kinds": [kind for kind, _ in wanted],
            "words": [word for _, word in wanted],
            "codes": [codes[word] for _, word in wanted],
            "forms": [" ".join(names.variants(word)) for _, word in wanted],
            "most": MOST_NAMES,
        },
    )
    take(cursor.fetchall())
    unknown = {
        kind: [word for its_kind, word in wanted if its_kind == kind and word not in scored[kind, word]]
        for kind in (NameForm.LAST, NameForm.FIRST)
    }
    parts = [_NEAR.format(kind=kind) for kind, words in unknown.items() if words]
    if parts:
        cursor.execute("SELECT set_config('pg_trgm.similarity_threshold', %s, TRUE)", [str(TRIGRAM)])
        cursor.execute(" UNION ALL ".join(parts), unknown)
        take(cursor.fetchall())
    return {key: Candidates(key[1], _best_names(found)) for key, found in scored.items()}


def _best_names(found: dict[str, tuple[int, int]]) -> dict[str, int]:
    """Keep the likeliest names, among equals the most frequent."""
    worth = sorted(
        ((*likeness_and_uses, norm) for norm, likeness_and_uses in found.items() if likeness_and_uses[0] >= WORTH),
        reverse=True,
    )
    return {norm: score for score, _uses, norm in worth[:MOST_NAMES]}


def readings(words: list[str]) -> list[tuple[str, str]]:
    """Return the ways to split words into (last name, first name), either order; compound names are several words."""
    if len(words) == 1:
        return [(words[0], "")]
    found = []
    for cut in range(1, len(words)):
        left, right = "".join(words[:cut]), "".join(words[cut:])
        found += [(left, right), (right, left)]
    whole = "".join(words)
    return [*found, (whole, "")]


# %-parameters everywhere; the braces only choose the column and the optional conditions.
_BY_NAME = """
(SELECT p.id, l.score * 6 + {first_score} AS name_score, p.birth_norm, p.first_norm, p.birth_date, p.commune_id
   FROM unnest(%(last_{n})s::text[], %(last_scores_{n})s::int[]) AS l(norm, score)
   JOIN repertoire_person p ON p.{column} = l.norm {first_condition}
   {first_join}
  WHERE TRUE {birth} {commune}
  LIMIT %(cap)s)
"""
_BY_FIRST = """
(SELECT p.id, f.score * 4 AS name_score, p.birth_norm, p.first_norm, p.birth_date, p.commune_id
   FROM unnest(%(first_{n})s::text[], %(first_scores_{n})s::int[]) AS f(norm, score)
   JOIN repertoire_person p ON p.first_norm = f.norm
  WHERE TRUE {birth} {commune}
  LIMIT 500)
"""
_BY_ID = """
(SELECT p.id, i.score AS name_score, p.birth_norm, p.first_norm, p.birth_date, p.commune_id
   FROM unnest(%(ids)s::bigint[], %(id_scores)s::int[]) AS i(id, score)
   JOIN repertoire_person p ON p.id = i.id
  WHERE TRUE {commune})
"""
_RANK = """
WITH found AS ({parts}),
     scored AS (
       SELECT id, max(name_score) + {birth_score} AS score, birth_norm, first_norm
         FROM found GROUP BY id, birth_norm, first_norm, birth_date)
SELECT id, score, birth_norm, first_norm, (SELECT count(*) FROM found) AS seen
  FROM scored
 {after}
 ORDER BY score DESC, birth_norm, first_norm, id
 LIMIT %(limit)s
"""


def find(question: Question, *, cursor_text: str = "", size: int = PAGE) -> Page:
    """Return a page of persons that answer the question, the best first; `cursor_text` continues after a page."""
    if question.empty:
        return Page([])
    with metrics.SEARCH_SECONDS.time():
        if question.nir or question.phone or question.number:
            return _by_identifier(question)
        page = _by_words(question, cursor_text, size)
        if not page.hits and question.commune is not None and not cursor_text:
            place, question.commune = question.commune, None
            page = _by_words(question, "", size)
            question.commune, page.elsewhere = place, bool(page.hits)
            page.next_cursor = ""
            for hit in page.hits:
                hit.reasons.append(("note", "autre commune"))
        return page


def _by_identifier(question: Question) -> Page:
    persons = Person.objects.select_related("commune")
    if question.nir:
        found, reason = persons.filter(nir_index=nir.blind_index(question.nir)), "NIR"
    elif question.phone:
        found, reason = persons.filter(phone=question.phone), "téléphone"
    elif question.number.startswith("P"):
        found, reason = persons.filter(number=question.number), "n° de dossier"
    else:
        found = persons.filter(memberships__household__number=question.number, memberships__until__isnull=True)
        reason = "n° de foyer"
    return Page([Hit(person, 1000, [("exact", reason)]) for person in found.order_by("birth_date")[:PAGE]])


def _by_words(question: Question, cursor_text: str, size: int) -> Page:
    with connections[reads()].cursor() as cursor:
        sql, params = _compose(cursor, question)
        if not sql:
            return Page([])
        after = ""
        if cursor_text and (position := _read_cursor(cursor_text)):
            params |= dict(zip(("c_score", "c_birth", "c_first", "c_id"), position, strict=True))
            after = (
                "WHERE (-score, birth_norm, first_norm, id) > (-%(c_score)s::int, %(c_birth)s, %(c_first)s, "
                "%(c_id)s::bigint)"
            )
        params["limit"] = size + 1
        cursor.execute(sql.replace("{after}", after), params)
        rows = cursor.fetchall()
    more, rows = len(rows) > size, rows[:size]
    persons = Person.objects.select_related("commune").in_bulk([row[0] for row in rows])
    hits = [Hit(persons[row[0]], row[1], reasons(persons[row[0]], question)) for row in rows if row[0] in persons]
    return Page(
        hits,
        _write_cursor(rows[-1][1:4], rows[-1][0]) if more else "",
        capped=bool(rows) and rows[0][4] >= MOST_PERSONS,
    )


def _compose(cursor, question: Question) -> tuple[str, dict]:
    """Return the ranking query and its parameters; an empty query when no name can be meant."""
    params: dict = {"cap": MOST_PERSONS}
    parts: list[str] = []
    birth, birth_score = _birth_terms(question.birth, params)
    commune = ""
    if question.commune:
        params["commune"] = question.commune.code
        commune = "AND p.commune_id = %(commune)s"
    conditions = {"birth": birth, "commune": commune}

    splits = readings(question.words) if question.words else []
    wanted = {(NameForm.LAST, last) for last, _ in splits} | {(NameForm.FIRST, first) for _, first in splits if first}
    if len(question.words) == 1:
        wanted.add((NameForm.FIRST, question.words[0]))
    known = lookup(cursor, sorted(wanted)) if wanted else {}

    for n, (last, first) in enumerate(splits):
        lasts = known[NameForm.LAST, last]
        firsts = known[NameForm.FIRST, first] if first else None
        if not lasts.scores or (firsts is not None and not firsts.scores):
            continue
        params[f"last_{n}"], params[f"last_scores_{n}"] = lasts.arrays
        fragments = {"first_score": "400", "first_condition": "", "first_join": ""}
        if firsts is not None:
            params[f"first_{n}"], params[f"first_scores_{n}"] = firsts.arrays
            fragments = {
                "first_score": "f.score * 4",
                "first_condition": f"AND p.first_norm = ANY(%(first_{n})s::text[])",
                "first_join": f"JOIN unnest(%(first_{n})s::text[], %(first_scores_{n})s::int[]) AS f(norm, score) "
                "ON f.norm = p.first_norm",
            }
        for column in ("birth_norm", "usage_norm"):
            extra = " AND p.usage_norm <> ''" if column == "usage_norm" else ""
            parts.append(_BY_NAME.format(n=n, column=column, **fragments, **conditions | {"birth": birth + extra}))
    if len(question.words) == 1:
        firsts = known[NameForm.FIRST, question.words[0]]
        best = {name: score for name, score in firsts.scores.items() if score >= names.SAME_SOUND}
        if best:
            params["first_0"], params["first_scores_0"] = list(best), list(best.values())
            parts.append(_BY_FIRST.format(n=0, **conditions))
    if question.birth and question.birth.day and (born := _born_that_day(cursor, question)):
        params["ids"], params["id_scores"] = list(born), list(born.values())
        parts.append(_BY_ID.format(**conditions))
    if not parts:
        return "", params
    return _RANK.format(parts=" UNION ALL ".join(parts), birth_score=birth_score, after="{after}"), params


def _birth_terms(asked: Birth | None, params: dict) -> tuple[str, str]:
    """Return the condition on the date of birth and the score it adds; fill in their parameters."""
    if asked is None:
        return "", "0"
    params |= {"born_first": asked.first, "born_last": asked.last, "year": asked.year}
    condition = "AND p.birth_date BETWEEN %(born_first)s AND %(born_last)s"
    if asked.day is None:
        return condition, "CASE WHEN date_part('year', birth_date) = %(year)s THEN 300 ELSE 100 END"
    params |= {"born": asked.day, "swapped": asked.swapped or asked.day}
    return condition, (
        "CASE WHEN birth_date = %(born)s THEN 400 WHEN birth_date = %(swapped)s THEN 320 "
        "WHEN date_part('year', birth_date) = %(year)s THEN "
        " 200 + CASE WHEN date_part('month', birth_date) = date_part('month', %(born)s::date) "
        "        OR date_part('day', birth_date) = date_part('day', %(born)s::date) THEN 60 ELSE 0 END "
        "WHEN to_char(birth_date, 'MMDD') = to_char(%(born)s::date, 'MMDD') THEN 240 ELSE 60 END"
    )


def _born_that_day(cursor, question: Question) -> dict[int, int]:
    """Score the few dozen persons born on the very day, with more tolerance for their names than the dictionary's."""
    days = [day for day in (question.birth.day, question.birth.swapped) if day]
    cursor.execute(
        "SELECT id, birth_norm, usage_norm, first_norm FROM repertoire_person WHERE birth_date = ANY(%s)", [days]
    )
    rows = cursor.fetchall()
    if not question.words:
        return {row[0]: 500 for row in rows}
    found: dict[int, int] = {}
    for identity, birth_norm, usage_norm, first_norm in rows:
        for last, first in readings(question.words):
            last_score = max(_loose(last, birth_norm), _loose(last, usage_norm) if usage_norm else 0)
            first_score = _loose(first, first_norm) if first else 100
            score = last_score * 6 + first_score * 4
            # One of the two names may be quite wrong when the other and the day are right.
            if last_score >= LOOSE and score >= LOOSE_BOTH:
                found[identity] = max(score, found.get(identity, 0))
    return found


def _loose(asked: str, name: str) -> int:
    return names.likeness(asked, name, names.phonetic(asked), names.phonetic(name))


def reasons(person: Person, question: Question) -> list[tuple[str, str]]:
    """Say in words why a person answers the question."""
    said: list[tuple[str, str]] = []
    if question.words:
        splits = readings(question.words)
        said += _name_reason(person, {asked for asked, _ in splits})
        if len(question.words) > 1 and (
            reason := _likeness_reason({asked for _, asked in splits if asked}, person.first_norm, "prénom")
        ):
            said.append(reason)
        elif len(question.words) == 1 and not said:
            said.append(_likeness_reason({question.words[0]}, person.first_norm, "prénom") or ("note", "prénom"))
    if question.birth:
        said.append(_birth_reason(person.birth_date, question.birth))
    if question.commune:
        said.append(("exact", "commune"))
    return said


def _name_reason(person: Person, asked: set[str]) -> list[tuple[str, str]]:
    best: tuple[int, tuple[str, str]] | None = None
    strength = {"exact": 3, "near": 2, "note": 1}
    for norm, label in ((person.usage_norm, "nom d'usage"), (person.birth_norm, "nom de naissance")):
        if not norm:
            continue
        reason = _likeness_reason(asked, norm, label if person.usage_norm else "nom")
        if reason and (best is None or strength[reason[0]] > best[0]):
            best = strength[reason[0]], reason
    return [best[1]] if best else []


def _likeness_reason(asked: set[str], norm: str, label: str) -> tuple[str, str] | None:
    if norm in asked:
        return "exact", f"{label} exact"
    code = names.phonetic(norm)
    scores = {word: names.likeness(word, norm, names.phonetic(word), code) for word in asked}
    if not scores:
        return None
    word = max(scores, key=scores.get)
    if scores[word] < LOOSE:
        return None
    if len(word) >= names.SHORTEST_START and norm.startswith(word):
        return "near", f"début du {label}"
    if names.phonetic(word) == code:
        return "near", f"{label} : même son"
    return "near", f"{label} proche"


def _birth_reason(born: date, asked: Birth) -> tuple[str, str]:
    if asked.day is None:
        return ("exact", "année exacte") if born.year == asked.year else ("note", "année à 1 an près")
    if born == asked.day:
        return "exact", "date exacte"
    if born == asked.swapped:
        return "near", "jour et mois inversés"
    if (born.month, born.day) == (asked.day.month, asked.day.day):
        return "near", "même jour, année voisine"
    if born.year == asked.year:
        return "near", "même année"
    return "note", "date à 1 an près"


def _write_cursor(position: tuple, identity: int) -> str:
    return signing.dumps([*position, identity], salt="sias.search", compress=True)


def _read_cursor(text: str) -> tuple | None:
    try:
        score, birth_norm, first_norm, identity = signing.loads(text, salt="sias.search", max_age=24 * 3600)
    except (signing.BadSignature, ValueError):
        return None
    return score, birth_norm, first_norm, identity
