"""Pages of the dictionaries: what is in force on a day, an entry over time, changes by hand."""

import hashlib
import json
from collections import defaultdict
from datetime import date
from http import HTTPStatus

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from sias.dictionaries import files, imports
from sias.dictionaries.catalogue import DICTIONARIES, Communes, Dictionary, Entry
from sias.dictionaries.forms import EndForm, EntryForm
from sias.dictionaries.models import Import
from sias.habilitations.rights import can, requires
from sias.journal.access import Action, record_access
from sias.platform.failover import read_only
from sias.platform.idempotency import idempotent, key_of, new_key
from sias.socle.text import normalise
from sias.socle.versions import VersionError

PAGE = 200


def find(code: str, *, written: bool = False) -> Dictionary:
    """Return the dictionary of an address, 404 when there is none, or none that is written here."""
    dictionary = DICTIONARIES.get(code)
    if dictionary is None or (written and isinstance(dictionary, Communes)):
        raise Http404
    return dictionary


@requires("socle", "lire")
@read_only
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The dictionaries, and the last imports."""
    today = timezone.localdate()
    rows = [{"dictionary": one, "count": len(one.entries(today))} for one in DICTIONARIES.values()]
    may_import = can(request.user, "socle", "importer")
    recent = Import.objects.select_related("staged_by")[:10] if may_import else []
    return render(
        request,
        "dictionaries/index.html",
        {"rows": rows, "today": today, "imports": [{"row": one, "title": title_of(one)} for one in recent]},
    )


def title_of(batch: Import) -> str:
    """Return the title of an import's dictionary."""
    known = DICTIONARIES.get(batch.dictionary)
    return known.title if known else batch.dictionary


def _asked_day(request: HttpRequest) -> tuple[date, str]:
    text = request.GET.get("jour", "").strip()[:10]
    try:
        return imports.day_of(text) or timezone.localdate(), ""
    except ValueError as error:
        return timezone.localdate(), f"{error} Voici ce qui est en vigueur aujourd'hui."


def _sifted(request: HttpRequest, dictionary: Dictionary, day: date) -> list[Entry]:
    """Return what the list's fields leave."""
    entries = dictionary.entries(day)
    kept = request.GET.get("nature", "")
    if dictionary.sieve and kept:
        entries = [entry for entry in entries if entry.values[dictionary.sieve] == kept]
    words = normalise(request.GET.get("q", "")[:100]).split()
    if words:
        entries = [
            entry for entry in entries if all(word in normalise(" ".join(entry.values.values())) for word in words)
        ]
    return entries


@requires("socle", "lire")
@read_only
@require_safe
def listing(request: HttpRequest, code: str) -> HttpResponse:
    """What is in force on a day; services as a tree unless something is looked for."""
    dictionary = find(code)
    day, problem = _asked_day(request)
    entries = _sifted(request, dictionary, day)
    text = request.GET.get("page", "")
    page = int(text) if text.isdecimal() and 0 < len(text) < 4 and int(text) else 1  # noqa: PLR2004 - 999 pages
    shown = entries[(page - 1) * PAGE : page * PAGE]
    query = request.GET.copy()
    query.pop("page", None)
    return render(
        request,
        "dictionaries/list.html",
        {
            "dictionary": dictionary,
            "columns": _columns(dictionary),
            "rows": [_line(dictionary, entry) for entry in shown],
            "tree": _tree(dictionary, entries) if dictionary.code == "services" and not request.GET.get("q") else None,
            "count": len(entries),
            "day": day,
            "problem": problem,
            "asked": {name: request.GET.get(name, "")[:100] for name in ("q", "nature", "jour")},
            "sieve": dictionary.column(dictionary.sieve) if dictionary.sieve else None,
            "query": query.urlencode(),
            "next": page + 1 if len(entries) > page * PAGE else None,
            "previous": page - 1 if page > 1 else None,
            "may_import": can(request.user, "socle", "importer") and not isinstance(dictionary, Communes),
        },
    )


def _columns(dictionary: Dictionary) -> list[str]:
    return [column.label for column in dictionary.columns]


def _words(dictionary: Dictionary, entry: Entry) -> list[str]:
    return [
        dict(column.choices).get(entry.values[column.field], entry.values[column.field])
        for column in dictionary.columns
    ]


def _line(dictionary: Dictionary, entry: Entry) -> dict:
    return {"entry": entry, "words": _words(dictionary, entry)}


def _tree(dictionary: Dictionary, entries: list[Entry]) -> list[dict]:
    """Return the entries as a tree: [{entry, name, below: [...]}]. What hangs on an entry of another day is a root."""
    below: dict[tuple | None, list[Entry]] = defaultdict(list)
    known = {entry.key for entry in entries}
    for entry in entries:
        above = dictionary.key_of_above(entry.values)
        below[above if above in known else None].append(entry)

    def branch(above: tuple | None) -> list[dict]:
        found = sorted(below[above], key=lambda entry: normalise(entry.values["name"]))
        return [{"entry": entry, "below": branch(entry.key)} for entry in found]

    return branch(None)


@requires("socle", "lire")
@read_only
@require_safe
def export(request: HttpRequest, code: str) -> HttpResponse:
    """What is in force on a day, as a file that the import takes back."""
    dictionary = find(code)
    day, _problem = _asked_day(request)
    entries = _sifted(request, dictionary, day)
    if dictionary.code == "agents":
        record_access(request.user, None, Action.EXPORT, domain="socle", detail={"agents": len(entries)})
    lines = [
        [entry.values[column.field] for column in dictionary.columns] + [_iso(entry.since), _iso(entry.until)]
        for entry in entries
    ]
    return as_file(files.write(dictionary.headers, lines), f"{dictionary.code}-{day:%Y-%m-%d}.csv")


def as_file(text: str, name: str) -> HttpResponse:
    """Answer with a CSV."""
    return HttpResponse(
        text,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"},
    )


def _iso(day: date | None) -> str:
    return day.isoformat() if day else ""


@requires("socle", "lire")
@read_only
@require_safe
def entry(request: HttpRequest, code: str, key: str) -> HttpResponse:
    """An entry over time, and what hangs on it today."""
    return _entry_page(request, find(code), key, EndForm(initial={"day": timezone.localdate()}))


def _entry_page(
    request: HttpRequest, dictionary: Dictionary, key: str, form: EndForm, status: int = 200
) -> HttpResponse:
    versions = _versions(dictionary, key)
    today = timezone.localdate()
    now = _now(versions, today)
    return render(
        request,
        "dictionaries/entry.html",
        {
            "dictionary": dictionary,
            "address": key,
            "title": (now or versions[0]).values.get("name") or (now or versions[0]).values.get("label") or key,
            "now": _pairs(dictionary, now) if now else None,
            "columns": _columns(dictionary),
            "versions": [_line(dictionary, one) | {"now": one is now} for one in versions],
            "attached": _attached(dictionary, now, today) if now else [],
            "may_write": can(request.user, "socle", "importer") and not isinstance(dictionary, Communes),
            "form": form,
            "idempotency_key": key_of(request) or new_key(),
        },
        status=status,
    )


def _versions(dictionary: Dictionary, key: str) -> list[Entry]:
    parts = dictionary.parse_key(key)
    versions = dictionary.history(parts) if parts else []
    if not versions:
        raise Http404
    return versions


def _now(versions: list[Entry], day: date) -> Entry | None:
    return next(
        (one for one in versions if (one.since is None or one.since <= day) and (one.until is None or one.until > day)),
        None,
    )


def _pairs(dictionary: Dictionary, found: Entry) -> list[dict]:
    return [
        {
            "label": column.label,
            "words": words,
            "url": reverse("dictionaries:entry", args=[column.refers, _address(column.refers, found, words)])
            if column.refers and words
            else "",
        }
        for column, words in zip(dictionary.columns, _words(dictionary, found), strict=True)
    ]


def _address(refers: str, found: Entry, code: str) -> str:
    """Return the address of what a column refers to: of a line of the nomenclature, on the same axis."""
    return ":".join([*found.key[:-1], code]) if refers == "nomenclature" else code


# What hangs on an entry: (dictionary, column) of those who refer to it.
REFERRING = {
    "services": (("services", "parent"), ("agents", "service")),
    "territoires": (("secteurs", "territory"), ("services", "territory")),
    "communes": (("secteurs", "commune_id"),),
    "nomenclature": (("nomenclature", "parent"),),
}


def _attached(dictionary: Dictionary, now: Entry, day: date) -> list[dict]:
    parts = []
    for code, name in REFERRING.get(dictionary.code, ()):
        other = DICTIONARIES[code]
        rows = [one for one in other.entries(day) if one.values[name] == now.key[-1]]
        if code == dictionary.code:
            rows = [one for one in rows if other.key_of_above(one.values) == now.key]
        if rows:
            parts.append({"dictionary": other, "count": len(rows), "rows": [_line(other, one) for one in rows[:PAGE]]})
    return parts


def _seen(versions: list[Entry]) -> str:
    """Return a mark of an entry's versions: it tells whether somebody changed them since a form was shown."""
    text = json.dumps([[one.values, _iso(one.since), _iso(one.until)] for one in versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@requires("socle", "importer")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def edit(request: HttpRequest, code: str, key: str = "") -> HttpResponse:
    """Create an entry, or write its next version."""
    dictionary = find(code, written=True)
    versions = _versions(dictionary, key) if key else []
    now = _now(versions, timezone.localdate()) or (versions[0] if versions else None)
    initial = {**(now.values if now else {}), "since": timezone.localdate(), "seen": _seen(versions)}
    form = EntryForm(
        dictionary, request.POST if request.method == "POST" else None, key=now.key if now else (), initial=initial
    )
    if not form.is_bound or not form.is_valid():
        return _edit_page(request, form, now, HTTPStatus.UNPROCESSABLE_ENTITY if form.is_bound else HTTPStatus.OK)
    if key and form.cleaned_data["seen"] != _seen(versions):
        form.add_error(
            None,
            "Quelqu'un a modifié cette entrée depuis que vous l'avez ouverte. Votre saisie est gardée : comparez avec "
            "les versions, puis enregistrez à nouveau.",
        )
        form.data = {**request.POST.dict(), "seen": _seen(versions)}
        return _edit_page(request, form, now, HTTPStatus.CONFLICT)
    imports.lock(dictionary)
    if not (problem := _write(dictionary, form, fresh=now is None)):
        record_access(
            request.user,
            None,
            Action.CHANGE,
            domain="socle",
            detail={"dictionnaire": code, "entree": key or "nouvelle"},
        )
        messages.success(
            request, f"{dictionary.title} : enregistré, à partir du {form.cleaned_data['since']:%d/%m/%Y}."
        )
        made = dictionary.key_of(form.cleaned_data)
        return redirect("dictionaries:entry", code, ":".join(made))
    form.add_error(None, problem)
    return _edit_page(request, form, now, HTTPStatus.UNPROCESSABLE_ENTITY)


def _write(dictionary: Dictionary, form: EntryForm, *, fresh: bool) -> str:
    """Write what a form says, by the rules of an import of one line; return what is wrong, "" when it is done."""
    data = form.cleaned_data
    given = {column.name: data[column.field] for column in dictionary.columns}
    given |= {"depuis": _iso(data["since"]), "jusqu_au": _iso(data["until"])}
    staging = imports.stage(dictionary, [(1, given)], data["since"], complete=False)
    row = staging.rows[0]
    if row.verdict == imports.Verdict.REJECTED:
        return row.reason
    if fresh and dictionary.history(dictionary.key_of(data)):
        return "Cette clé existe déjà, aujourd'hui ou dans le passé : ouvrez l'entrée et modifiez-la."
    try:
        dictionary.write(list(staging.wanted.values()), "saisie")
    except VersionError as error:
        return str(error)
    return ""


def _edit_page(request: HttpRequest, form: EntryForm, now: Entry | None, status: int) -> HttpResponse:
    dictionary, today = form.dictionary, timezone.localdate()
    lists = {column.refers for column in dictionary.columns if column.refers}
    return render(
        request,
        "dictionaries/form.html",
        {
            "dictionary": dictionary,
            "form": form,
            "address": now.address if now else "",
            "lists": {
                code: [
                    (one.key[-1], one.values.get("name") or one.values.get("label"))
                    for one in DICTIONARIES[code].entries(today)
                ]
                for code in lists
            },
            "idempotency_key": new_key() if status == HTTPStatus.CONFLICT else key_of(request) or new_key(),
        },
        status=status,
    )


def _options(dictionary: Dictionary, day: date) -> list[tuple[str, str]]:
    """Return (code, words) of what a column may name."""
    return [(one.key[-1], one.values.get("name") or one.values.get("label")) for one in dictionary.entries(day)]


@requires("socle", "importer")
@require_POST
@idempotent
def end(request: HttpRequest, code: str, key: str) -> HttpResponse:
    """End an entry on a day, unless something in force hangs on it."""
    dictionary = find(code, written=True)
    versions = _versions(dictionary, key)
    form = EndForm(request.POST)
    if form.is_valid():
        day = form.cleaned_data["day"]
        imports.lock(dictionary)
        now = _now(versions, day)
        attached = _attached(dictionary, now, day) if now else []
        if now is None:
            form.add_error("day", "Cette entrée n'est pas en vigueur ce jour-là.")
        elif attached:
            hanging = ", ".join(f"{part['dictionary'].title.lower()} ({part['count']})" for part in attached)
            form.add_error("day", f"D'autres entrées en dépendent encore ce jour-là : {hanging}.")
        else:
            dictionary.end([now.key], day)
            record_access(request.user, None, Action.CHANGE, domain="socle", detail={"dictionnaire": code, "fin": key})
            messages.success(request, f"{key} : n'est plus en vigueur à partir du {day:%d/%m/%Y}.")
            if now.since == day:
                return redirect("dictionaries:list", code)
            return redirect("dictionaries:entry", code, key)
    return _entry_page(request, dictionary, key, form, HTTPStatus.UNPROCESSABLE_ENTITY)


end.sias_form = EndForm
