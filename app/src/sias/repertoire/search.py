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
from itertools import product

from django.core import signing
from django.db import connections

from sias.platform import metrics
from sias.platform.routing import reads
from sias.repertoire import names, nir, relations
from sias.repertoire.models import Household, NameForm, Person
from sias.socle.geography import Place
from sias.socle.text import compact

PAGE = 20
MOST_NAMES = 40  # per word of the question, the best ones
MOST_ENTRIES = 200  # names, or pairs of last and first name, looked for among the persons
FIRST_ENTRIES = 8  # names looked for first, when their order is the order of the answers
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
    street: str = ""  # compared form of the address, see sias.repertoire.names.street

    @property
    def empty(self) -> bool:
        """Whether there is nothing to look for; a year alone would be ten thousand persons."""
        day = self.birth is not None and self.birth.day is not None
        return not (self.words or day or self.nir or self.phone or self.number or self.street)


@dataclass
class Hit:
    """A person found, and why."""

    person: Person
    score: int
    reasons: list[tuple[str, str]]  # (strength: exact, near, note; words)
    masked: str = ""  # why this agent may not open the person; set by the view


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


def parse(text: str, birth: str = "", commune: Place | None = None, address: str = "") -> Question:
    """Understand the one field of the search, and those that refine it."""
    question = Question(
        commune=commune,
        street=names.street(address) if names.names_a_street(address) else "",
        birth=parse_birth(birth) if birth else None,
    )
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
# A second one, only when no reading of the question is near: names with several errors. The kind is a literal, not a
# parameter: each kind has its own partial index.
_NEAR = """
SELECT '{kind}', w.word, f.norm, f.phonetic, f.uses FROM unnest(%({kind})s::text[]) AS w(word)
 CROSS JOIN LATERAL (SELECT norm, phonetic, uses FROM repertoire_nameform
                      WHERE kind = '{kind}' AND norm OPERATOR(public.%%) w.word) AS f
"""
Known = dict[tuple[str, str], dict[str, int]]  # (kind, word) -> name -> likeness, the best first


def lookup(cursor, wanted: list[tuple[str, str]], splits: list[tuple[str, str]]) -> Known:
    """Ask the dictionary which names each (kind, word) may mean."""
    scored: dict[tuple[str, str], dict[str, tuple[int, int]]] = {key: {} for key in wanted}

    def ask(sql: str, params: dict) -> Known:
        cursor.execute(sql, params)
        for kind, word, norm, code, uses in cursor.fetchall():
            scored[kind, word][norm] = (names.likeness(word, norm, names.phonetic(word), code), uses)
        return {key: _best_names(found) for key, found in scored.items()}

    known = ask(
        _LOOKUP,
        {
            "kinds": [kind for kind, _ in wanted],
            "words": [word for _, word in wanted],
            "codes": [names.phonetic(word) for _, word in wanted],
            "forms": [" ".join(names.variants(word)) for _, word in wanted],
            "most": MOST_NAMES,
        },
    )
    if any(
        _best(known[NameForm.LAST, last]) and (not first or _best(known[NameForm.FIRST, first]))
        for last, first in splits
    ):
        return known
    words = {kind: [word for its_kind, word in wanted if its_kind == kind] for kind in (NameForm.LAST, NameForm.FIRST)}
    cursor.execute("SELECT set_config('pg_trgm.similarity_threshold', %s, TRUE)", [str(TRIGRAM)])
    return ask(" UNION ALL ".join(_NEAR.format(kind=kind) for kind in words if words[kind]), words)


def _best(found: dict[str, int]) -> bool:
    """Tell whether a name is at most one error away."""
    return next(iter(found.values()), 0) >= names.ONE_ERROR


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


@dataclass(frozen=True, order=True)
class Entry:
    """A name to look for among the persons: last and first, or one of them. In the order of the answers."""

    rank: int  # minus the likeness, 0-1000: the best come first
    last: str
    first: str


# The lateral subquery keeps the planner on the index of the name: joined freely it may start from a frequent first name.
_PERSONS = """
(SELECT w.score, w.last, w.first, p.id, p.birth_norm, p.usage_norm, p.first_norm, p.birth_date
   FROM unnest(%(lasts_{kind})s::text[], %(firsts_{kind})s::text[], %(scores_{kind})s::int[]) AS w(last, first, score)
  CROSS JOIN LATERAL (
    SELECT id, birth_norm, usage_norm, first_norm, birth_date FROM repertoire_person
     WHERE {condition} {filters} {order}) AS p
  LIMIT %(cap)s)
"""
# A branch per index. `usage_norm <> ''` is the condition of the partial one.
_CONDITIONS = {
    "pair": (
        "birth_norm = w.last AND first_norm = w.first",
        "usage_norm = w.last AND usage_norm <> '' AND first_norm = w.first",
    ),
    "last": ("birth_norm = w.last", "usage_norm = w.last AND usage_norm <> ''"),
    "first": ("first_norm = w.first",),
}
_BY_ID = """
(SELECT i.score, '', '', p.id, p.birth_norm, p.usage_norm, p.first_norm, p.birth_date
   FROM unnest(%(ids)s::bigint[], %(id_scores)s::int[]) AS i(id, score)
   JOIN repertoire_person p ON p.id = i.id
  WHERE TRUE {filters})
"""
_RANK = """
WITH found AS ({parts}),
     scored AS (
       SELECT id, max(score) + {birth_score} AS score, birth_norm, first_norm
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
        if not found.exists() and (holder := relations.holder_of(Person, question.number)):
            found, reason = persons.filter(pk=holder), f"a repris le dossier {question.number}, fusionné"
    else:
        found = persons.filter(memberships__household__number=question.number, memberships__until__isnull=True)
        reason = "n° de ménage"
        if not found.exists() and (holder := relations.holder_of(Household, question.number)):
            found = persons.filter(memberships__household=holder, memberships__until__isnull=True)
            reason = f"son ménage a repris le ménage {question.number}, fusionné"
    return Page([Hit(person, 1000, [("exact", reason)]) for person in found.order_by("birth_date")[:PAGE]])


def _by_words(question: Question, cursor_text: str, size: int) -> Page:
    position = _read_cursor(cursor_text) if cursor_text else None
    with connections[reads()].cursor() as cursor:
        entries = _entries(cursor, question)
        if question.street and not question.words:
            rows, following, capped = _by_street(cursor, question, position, size)
        elif question.birth is None:
            rows, following, capped = _in_order(cursor, question, entries, position, size)
        else:
            rows, following, capped = _ranked(cursor, question, entries, position, size)
    persons = Person.objects.select_related("commune").in_bulk([identity for identity, _score in rows])
    hits = [
        Hit(persons[identity], score, reasons(persons[identity], question))
        for identity, score in rows
        if identity in persons
    ]
    return Page(hits, _write_cursor(following) if following else "", capped=capped)


def _entries(cursor, question: Question) -> list[Entry]:
    """Return the names to look for, the likeliest first; every way of reading the question together."""
    splits = readings(question.words) if question.words else []
    alone = question.words[0] if len(question.words) == 1 else ""
    wanted = {(NameForm.LAST, last) for last, _ in splits} | {(NameForm.FIRST, first) for _, first in splits if first}
    if alone:
        wanted.add((NameForm.FIRST, alone))
    known = lookup(cursor, sorted(wanted), splits) if wanted else {}
    best: dict[tuple[str, str], int] = {}
    for last, first in splits:
        firsts = known[NameForm.FIRST, first] if first else {"": 100}
        for last_name, last_score in known[NameForm.LAST, last].items():
            for first_name, first_score in firsts.items():
                key, score = (last_name, first_name), last_score * 6 + first_score * 4
                best[key] = max(score, best.get(key, 0))
    if alone:
        best |= {
            ("", name): score * 4 for name, score in known[NameForm.FIRST, alone].items() if score >= names.SAME_SOUND
        }
    return sorted(Entry(-score, *key) for key, score in best.items())[:MOST_ENTRIES]


def _branches(entries: list[Entry], params: dict, filters: str, order: str) -> list[str]:
    """Return the subqueries that find who bears the names; fill in their parameters."""
    parts = []
    for kind, conditions in _CONDITIONS.items():
        mine = [
            entry
            for entry in entries
            if ("pair" if entry.last and entry.first else "last" if entry.last else "first") == kind
        ]
        if not mine:
            continue
        params[f"lasts_{kind}"] = [entry.last for entry in mine]
        params[f"firsts_{kind}"] = [entry.first for entry in mine]
        params[f"scores_{kind}"] = [-entry.rank for entry in mine]
        parts += [
            _PERSONS.format(kind=kind, condition=condition, filters=filters, order=order) for condition in conditions
        ]
    return parts


def _filters(question: Question, params: dict) -> str:
    """Return the conditions that are the same for every name."""
    filters = ""
    if question.commune:
        params["commune"] = question.commune.code
        filters += " AND commune_id = %(commune)s"
    if question.street:
        params |= {"street": question.street, "street_end": question.street + chr(127)}
        filters += " AND address_norm >= %(street)s AND address_norm < %(street_end)s"
    return filters


def _by_street(
    cursor, question: Question, position: tuple | None, size: int
) -> tuple[list[tuple[int, int]], tuple | None, bool]:
    """Only an address: who lives there, door after door."""
    params: dict = {"limit": size + 1}
    filters = _filters(question, params)
    if question.birth:
        filters += _birth_terms(question.birth, params)[0]
    if position:
        params |= {"c_street": position[0], "c_id": position[1]}
        filters += " AND (address_norm, id) > (%(c_street)s, %(c_id)s)"
    cursor.execute(
        f"SELECT id, address_norm FROM repertoire_person WHERE TRUE {filters} ORDER BY address_norm, id LIMIT %(limit)s",  # noqa: S608
        params,
    )
    rows = cursor.fetchall()
    following = (rows[size - 1][1], rows[size - 1][0]) if len(rows) > size else None
    return [(identity, 1000) for identity, _ in rows[:size]], following, False


def _in_order(
    cursor, question: Question, entries: list[Entry], position: tuple | None, size: int
) -> tuple[list[tuple[int, int]], tuple | None, bool]:
    """Without a date of birth everyone of one name has one score: read name after name until the page is full.

    The order is that of the index, (name, date of birth, identifier), so a page never reads more than it shows.
    """
    after = Entry(*position[:3]) if position else None
    born, identity = (date.fromisoformat(position[3]), position[4]) if position else (date.min, 0)
    shown: list[tuple[Entry, date, int]] = []
    ranks = {(entry.last, entry.first): entry for entry in reversed(entries)}
    start = 0
    # The first names nearly always fill a page; the others are then not asked for.
    for end in (FIRST_ENTRIES, len(entries)):
        part = [entry for entry in entries[start:end] if after is None or entry >= after]
        start = end
        again = [entry for entry in part if entry == after]  # in the middle of a name: go on after the last one shown
        for group, condition in ((again, " AND (birth_date, id) > (%(born)s, %(identity)s)"), (part[len(again) :], "")):
            if not group:
                continue
            params: dict = {"cap": MOST_PERSONS, "limit": size + 1, "born": born, "identity": identity}
            parts = _branches(
                group, params, _filters(question, params) + condition, "ORDER BY birth_date, id LIMIT %(limit)s"
            )
            cursor.execute(" UNION ALL ".join(parts), params)
            for score, last, first, found, birth_norm, usage_norm, first_norm, birth_date in cursor.fetchall():
                mine = Entry(-score, last, first)
                # Someone with two names that answer is shown once, under the better one.
                others = (
                    ranks.get(key) for key in product((birth_norm, usage_norm or birth_norm, ""), (first_norm, ""))
                )
                if mine == min(entry for entry in others if entry is not None):
                    shown.append((mine, birth_date, found))
        if len(shown) > size:
            break
    shown = sorted(set(shown))
    rows = [(found, -entry.rank) for entry, _born, found in shown[:size]]
    if len(shown) <= size:
        return rows, None, False
    entry, last_born, found = shown[size - 1]
    return rows, (entry.rank, entry.last, entry.first, last_born.isoformat(), found), False


def _ranked(
    cursor, question: Question, entries: list[Entry], position: tuple | None, size: int
) -> tuple[list[tuple[int, int]], tuple | None, bool]:
    """With a date of birth few persons remain: score them all, names and date together."""
    params: dict = {"cap": MOST_PERSONS, "limit": size + 1}
    filters = _filters(question, params)
    birth, birth_score = _birth_terms(question.birth, params)
    # OFFSET 0: the subquery stays one, see _PERSONS.
    parts = _branches(entries, params, filters + birth, "OFFSET 0")
    if question.birth.day and (born := _born_that_day(cursor, question)):
        params["ids"], params["id_scores"] = list(born), list(born.values())
        parts.append(_BY_ID.format(filters=filters))
    if not parts:
        return [], None, False
    after = ""
    if position:
        params |= dict(zip(("c_score", "c_birth", "c_first", "c_id"), position, strict=True))
        after = "WHERE (-score, birth_norm, first_norm, id) > (-%(c_score)s::int, %(c_birth)s, %(c_first)s, %(c_id)s::bigint)"
    cursor.execute(_RANK.format(parts=" UNION ALL ".join(parts), birth_score=birth_score, after=after), params)
    rows = cursor.fetchall()
    following = (*rows[size - 1][1:4], rows[size - 1][0]) if len(rows) > size else None
    return [row[:2] for row in rows[:size]], following, bool(rows) and rows[0][4] >= MOST_PERSONS


def _birth_terms(asked: Birth, params: dict) -> tuple[str, str]:
    """Return the condition on the date of birth and the score it adds; fill in their parameters."""
    params |= {"born_first": asked.first, "born_last": asked.last, "year": asked.year}
    condition = " AND birth_date BETWEEN %(born_first)s AND %(born_last)s"
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
    if question.street:
        said.append(("exact", "adresse") if person.address_norm == question.street else ("near", "début de l'adresse"))
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


def _write_cursor(position: tuple) -> str:
    return signing.dumps(list(position), salt="sias.search", compress=True)


def _read_cursor(text: str) -> tuple | None:
    try:
        return tuple(signing.loads(text, salt="sias.search", max_age=24 * 3600))
    except (signing.BadSignature, ValueError):
        return None
