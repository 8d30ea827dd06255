"""Stage a file, look at it, apply it. Nothing changes before somebody has seen what would."""

import re
from collections import Counter
from datetime import date, datetime

from django.db import connections
from django.utils import timezone

from sias.dictionaries.catalogue import DICTIONARIES, Column, Dictionary, Entry
from sias.dictionaries.models import Import, ImportRow
from sias.platform.pages import DATES
from sias.socle.versions import Wanted

MOST_ENDED = 0.2  # share of the entries that a complete list may end without being told twice
FEW = 5  # entries, which are never too many
Verdict = ImportRow.Verdict
_CODE = re.compile(r"^[\w.@+-]+$", re.ASCII)  # what an address carries and people type


def lock(dictionary: Dictionary) -> None:
    """Let one change of the dictionary happen at a time, until the transaction ends."""
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"dictionnaire {dictionary.code}"])


def day_of(text: str) -> date | None:
    """Return the day that a text means, None for an empty one. Raises ValueError."""
    if not text:
        return None
    for form in DATES:
        try:
            return datetime.strptime(text, form).date()  # noqa: DTZ007 - a civil date
        except ValueError:
            continue
    raise ValueError(f"« {text} » n'est pas une date : écrivez 31/12/2026.")


def clean(dictionary: Dictionary, given: dict[str, str]) -> tuple[dict[str, str], str]:
    """Return the values of a line by field, and what is wrong with them ("" when nothing)."""
    values, wrong = {}, []
    for column in dictionary.columns:
        text = " ".join(given.get(column.name, "").split())
        if column.choices and text:
            known = {word.lower(): code for code, label in column.choices for word in (code, label)}
            if text.lower() not in known:
                wrong.append(f"{column.label} : « {text} » est inconnu ({', '.join(dict(column.choices))}).")
            text = known.get(text.lower(), text)
        if column.required and not text:
            wrong.append(f"{column.label} : manque.")
        elif len(text) > column.longest:
            wrong.append(f"{column.label} : {len(text)} caractères, {column.longest} au plus.")
        elif column.field in dictionary.key and text and not _CODE.match(text):
            wrong.append(f"{column.label} : « {text} » : lettres, chiffres et . _ @ + - seulement.")
        values[column.field] = text
    return values, " ".join(wrong)


class Staging:
    """What the lines of a file would do to a dictionary on a day."""

    def __init__(self, dictionary: Dictionary, since: date) -> None:
        self.dictionary, self.since = dictionary, since
        self.now = {entry.key: entry for entry in dictionary.entries(since)}
        self.rows: list[ImportRow] = []
        self.wanted: dict[int, Wanted] = {}  # by place in `rows`
        self._places: dict[tuple, int] = {}
        self._known: dict[str, set[str]] = {}

    def add(self, line: int, given: dict[str, str]) -> None:
        """Look at a line by itself."""
        values, wrong = clean(self.dictionary, given)
        since, until = self.since, None
        try:
            since, until = day_of(given.get("depuis", "")) or self.since, day_of(given.get("jusqu_au", ""))
        except ValueError as error:
            wrong = f"{wrong} {error}".strip()
        row = ImportRow(line=line, given=given, verdict=Verdict.REJECTED, reason=wrong[:300])
        self.rows.append(row)
        if wrong:
            return
        key = self.dictionary.key_of(values)
        if key in self._places:
            row.reason = f"Même clé que la ligne {self.rows[self._places[key]].line}."
            return
        if until is not None and until <= since:
            row.reason = "La fin doit suivre le début."
            return
        self._places[key] = len(self.rows) - 1
        self.wanted[self._places[key]] = Wanted(
            key, {name: value for name, value in values.items() if name not in self.dictionary.key}, since, until
        )

    def settle(self, *, complete: bool) -> list[ImportRow]:
        """Look at the lines together and give each its verdict; add those that a complete list ends."""
        if complete:
            self._end_absent()
        while self._reject():  # what is rejected may be what another line refers to
            pass
        for place, one in self.wanted.items():
            row, before = self.rows[place], self.now.get(one.key)
            row.differences = self._differences(before, one)
            row.reason = ""
            row.verdict = Verdict.NEW if before is None else Verdict.CHANGED if row.differences else Verdict.SAME
        return self.rows

    def _values(self, one: Wanted) -> dict[str, str]:
        return dict(zip(self.dictionary.key, one.key, strict=True)) | one.values

    def _after(self) -> dict[tuple, dict[str, str]]:
        """Return the entries as they would be."""
        ended = {row.given["clef"] for row in self.rows if row.verdict == Verdict.ENDED}
        after = {key: entry.values for key, entry in self.now.items() if entry.address not in ended}
        return after | {one.key: self._values(one) for one in self.wanted.values()}

    def _reject(self) -> bool:
        """Reject one round of lines that cannot stand; tell whether there were any."""
        after, refused = self._after(), []
        for place, one in self.wanted.items():
            if reason := self._problem(self._values(one), after):
                self.rows[place].reason = reason[:300]
                refused.append(place)
        for place in refused:
            del self.wanted[place]
        kept = False
        used = {self.dictionary.key_of_above(values) for values in after.values()}
        for row in self.rows:
            if row.verdict == Verdict.ENDED and self.dictionary.parse_key(row.given["clef"]) in used:
                row.verdict, row.reason, kept = (
                    Verdict.REJECTED,
                    "Absente du fichier, mais d'autres en dépendent.",
                    True,
                )
        return bool(refused) or kept

    def _problem(self, values: dict[str, str], after: dict[tuple, dict[str, str]]) -> str:
        for column in self.dictionary.columns:
            text = values[column.field]
            if column.refers and text and not self._refers(column, values, after):
                return f"{column.label} : « {text} » n'est pas au dictionnaire « {DICTIONARIES[column.refers].title} »."
        seen, above = {self.dictionary.key_of(values)}, self.dictionary.key_of_above(values)
        while above is not None:
            if above in seen:
                return "Cette entrée serait au-dessus d'elle-même."
            seen.add(above)
            above = self.dictionary.key_of_above(after[above]) if above in after else None
        return ""

    def _refers(self, column: Column, values: dict[str, str], after: dict[tuple, dict[str, str]]) -> bool:
        if column.refers == self.dictionary.code:
            return self.dictionary.key_of_above(values) in after
        if column.refers not in self._known:
            self._known[column.refers] = {entry.key[-1] for entry in DICTIONARIES[column.refers].entries(self.since)}
        return values[column.field] in self._known[column.refers]

    def _differences(self, before: Entry | None, one: Wanted) -> list[list[str]]:
        values = self._values(one)
        found = [
            [column.label, before.values[column.field] if before else "", values[column.field]]
            for column in self.dictionary.columns
            if before is None or before.values[column.field] != values[column.field]
        ]
        if before is not None and one.until is not None and one.until != before.until:
            found.append(["Jusqu'au", f"{before.until:%d/%m/%Y}" if before.until else "", f"{one.until:%d/%m/%Y}"])
        return found

    def _end_absent(self) -> None:
        named = {one.key for one in self.wanted.values()}
        # A line that was rejected still names its entry.
        rejected = {self.dictionary.key_of(clean(self.dictionary, row.given)[0]) for row in self.rows}
        for key, entry in self.now.items():
            if key in named | rejected:
                continue
            given = {column.name: entry.values[column.field] for column in self.dictionary.columns}
            self.rows.append(ImportRow(line=0, given=given | {"clef": entry.address}, verdict=Verdict.ENDED))


def stage(dictionary: Dictionary, lines: list[tuple[int, dict[str, str]]], since: date, *, complete: bool) -> Staging:
    """Look at the lines of a file, each with its number."""
    staging = Staging(dictionary, since)
    for number, given in lines:
        staging.add(number, given)
    staging.settle(complete=complete)
    return staging


def missing_headers(dictionary: Dictionary, headers: list[str]) -> list[str]:
    """Return the columns that a file must have and has not."""
    return [column.name for column in dictionary.columns if column.required and column.name not in headers]


def counts(batch: Import) -> Counter:
    """Return how many rows each verdict has."""
    return Counter(batch.rows.values_list("verdict", flat=True))


def too_many_ended(batch: Import, found: Counter) -> bool:
    """Tell whether a complete list would end so much that it is rather the wrong file."""
    ended = found[Verdict.ENDED]
    return ended > FEW and ended > MOST_ENDED * len(DICTIONARIES[batch.dictionary].entries(batch.since))


class ChangedError(Exception):
    """The dictionary changed since the preview, which was made again."""


def apply(batch: Import, agent: object) -> Counter:
    """Write what the preview shows. Raises ChangedError when it shows no longer what would happen, VersionError.

    In the caller's transaction.
    """
    dictionary = DICTIONARIES[batch.dictionary]
    lock(dictionary)
    shown = list(batch.rows.using("default").order_by("id"))
    lines = [(row.line, row.given) for row in shown if row.line]
    staging = stage(dictionary, lines, batch.since, complete=batch.complete)
    if [(row.verdict, row.differences) for row in staging.rows] != [(row.verdict, row.differences) for row in shown]:
        raise ChangedError
    write = [
        one for place, one in staging.wanted.items() if staging.rows[place].verdict in {Verdict.NEW, Verdict.CHANGED}
    ]
    dictionary.write(write, "import")
    ended = [dictionary.parse_key(row.given["clef"]) for row in staging.rows if row.verdict == Verdict.ENDED]
    dictionary.end(ended, batch.since)
    decide(batch, agent, Import.State.APPLIED)
    return Counter(row.verdict for row in staging.rows)


def restage(batch: Import) -> None:
    """Make the preview again."""
    lines = [(row.line, row.given) for row in batch.rows.using("default").order_by("id") if row.line]
    staging = stage(DICTIONARIES[batch.dictionary], lines, batch.since, complete=batch.complete)
    batch.rows.all().delete()
    keep(batch, staging)


def keep(batch: Import, staging: Staging) -> None:
    """Keep the rows of a preview."""
    for row in staging.rows:
        row.batch = batch
    ImportRow.objects.bulk_create(staging.rows, batch_size=1000)


def decide(batch: Import, agent: object, state: str) -> None:
    """Say what became of an import."""
    batch.state, batch.decided_at, batch.decided_by = state, timezone.now(), agent
    batch.save(update_fields=["state", "decided_at", "decided_by"])
