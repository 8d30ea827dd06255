"""Pages of imports: drop a file, look at what it would do, apply it, take the rejects away."""

import hashlib
from http import HTTPStatus

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from sias.dictionaries import files, imports
from sias.dictionaries.catalogue import DICTIONARIES, Dictionary
from sias.dictionaries.forms import UploadForm
from sias.dictionaries.models import Import, ImportRow
from sias.dictionaries.views import as_file, find, title_of
from sias.habilitations.rights import requires
from sias.journal.access import Action, record_access
from sias.platform.idempotency import idempotent, key_of, new_key
from sias.socle.versions import VersionError

SHOWN = 300  # rows of a preview on the page; the counts are of all


@requires("socle", "importer")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def upload(request: HttpRequest, code: str) -> HttpResponse:
    """Stage a file."""
    dictionary = find(code, written=True)
    if request.method != "POST":
        return _upload_page(request, dictionary, UploadForm(initial={"since": timezone.localdate()}))
    form = UploadForm(request.POST, request.FILES)
    if form.is_valid():
        content = form.cleaned_data["fichier"].read()
        try:
            headers, lines = files.read(content)
        except files.UnreadableError as error:
            form.add_error("fichier", str(error))
        else:
            if missing := imports.missing_headers(dictionary, headers):
                form.add_error(
                    "fichier",
                    f"Colonnes absentes : {', '.join(missing)}. La première ligne nomme les colonnes : "
                    f"{';'.join(dictionary.headers)}.",
                )
            elif not lines:
                form.add_error("fichier", "Ce fichier n'a que la ligne des colonnes.")
    if not form.is_valid():
        return _upload_page(request, dictionary, form, HTTPStatus.UNPROCESSABLE_ENTITY)
    data = form.cleaned_data
    batch = Import.objects.create(
        dictionary=code,
        name=data["fichier"].name[:200],
        sha256=hashlib.sha256(content).hexdigest(),
        headers=headers,
        since=data["since"],
        complete=data["complete"],
        staged_by=request.user,
    )
    imports.keep(batch, imports.stage(dictionary, lines, data["since"], complete=data["complete"]))
    unknown = sorted(set(headers) - set(dictionary.headers) - {"ligne", "motif"})
    if unknown:
        messages.warning(request, f"Colonnes ignorées : {', '.join(unknown)}.")
    return redirect("dictionaries:import", batch.pk)


def _upload_page(request: HttpRequest, dictionary: Dictionary, form: UploadForm, status: int = 200) -> HttpResponse:
    return render(
        request,
        "dictionaries/upload.html",
        {
            "dictionary": dictionary,
            "form": form,
            "most": files.MOST_ROWS,
            "idempotency_key": key_of(request) or new_key(),
        },
        status=status,
    )


upload.sias_form = UploadForm


@requires("socle", "importer")
@require_safe
def show(request: HttpRequest, identity: int) -> HttpResponse:
    """What a file would do, or did."""
    return _import_page(request, get_object_or_404(Import.objects.using("default"), pk=identity))


def _import_page(request: HttpRequest, batch: Import, status: int = 200, problem: str = "") -> HttpResponse:
    found = imports.counts(batch)
    kept = request.GET.get("sort", "")
    rows = batch.rows.using("default").order_by("line", "id")
    rows = rows.filter(verdict=kept) if kept in ImportRow.Verdict.values else rows.exclude(verdict=imports.Verdict.SAME)
    shown = list(rows[: SHOWN + 1])
    order = [name for name in DICTIONARIES[batch.dictionary].headers if name in batch.headers or not batch.headers]
    lines = [{"row": row, "words": [row.given.get(name, "") for name in order]} for row in shown[:SHOWN]]
    return render(
        request,
        "dictionaries/import.html",
        {
            "batch": batch,
            "title": title_of(batch),
            "counts": [(value, label, found[value]) for value, label in ImportRow.Verdict.choices],
            "rejected": found[imports.Verdict.REJECTED],
            "to_write": found[imports.Verdict.NEW] + found[imports.Verdict.CHANGED] + found[imports.Verdict.ENDED],
            "ended": found[imports.Verdict.ENDED],
            "many": batch.state == Import.State.STAGED and imports.too_many_ended(batch, found),
            "lines": lines,
            "more": len(shown) > SHOWN,
            "kept": kept,
            "problem": problem,
            "idempotency_key": new_key(),
        },
        status=status,
    )


@requires("socle", "importer")
@require_POST
@idempotent
def decide(request: HttpRequest, identity: int) -> HttpResponse:
    """Apply what the preview shows, or give it up."""
    batch = get_object_or_404(Import.objects.using("default").select_for_update(), pk=identity)
    if batch.state != Import.State.STAGED:
        messages.info(request, f"Cet import est déjà {batch.get_state_display().lower()}.")
        return redirect("dictionaries:import", batch.pk)
    if request.POST.get("decision") == "abandonner":
        imports.decide(batch, request.user, Import.State.ABANDONED)
        messages.info(request, "Import abandonné : rien n'a changé.")
        return redirect("dictionaries:list", batch.dictionary)
    if imports.too_many_ended(batch, imports.counts(batch)) and request.POST.get("certain") != "oui":
        return _import_page(
            request,
            batch,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "Confirmez d'abord la fermeture des entrées absentes du fichier.",
        )
    try:
        done = imports.apply(batch, request.user)
    except imports.ChangedError:
        imports.restage(batch)  # kept: the answer is a redirect
        messages.error(request, "Le dictionnaire a changé depuis l'aperçu, refait ci-dessous. Rien n'a été appliqué.")
        return redirect("dictionaries:import", batch.pk)
    except VersionError as error:
        return _import_page(request, batch, HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    record_access(
        request.user,
        batch,
        Action.CHANGE,
        domain="socle",
        detail={"dictionnaire": batch.dictionary, "fichier": batch.sha256} | {str(key): done[key] for key in done},
    )
    written = done[imports.Verdict.NEW] + done[imports.Verdict.CHANGED] + done[imports.Verdict.ENDED]
    rejected = done[imports.Verdict.REJECTED]
    messages.success(
        request, f"Import appliqué : {_many(written, 'entrée écrite')}, {_many(rejected, 'ligne rejetée')}."
    )
    return redirect("dictionaries:import", batch.pk)


def _many(count: int, words: str) -> str:
    return f"{count} {words}" if count < 2 else f"{count} " + " ".join(f"{word}s" for word in words.split())  # noqa: PLR2004


@requires("socle", "importer")
@require_safe
def rejects(request: HttpRequest, identity: int) -> HttpResponse:
    """The rejected lines as they came, with the reason: to correct and to drop again, at any time."""
    batch = get_object_or_404(Import, pk=identity)
    record_access(request.user, batch, Action.EXPORT, "rejets", domain="socle")
    known = DICTIONARIES[batch.dictionary].headers if batch.dictionary in DICTIONARIES else []
    headers = [name for name in batch.headers if name not in {"ligne", "motif"}] or known
    lines = [
        [row.given.get(name, "") for name in headers] + [row.line or "", row.reason]
        for row in batch.rows.filter(verdict=imports.Verdict.REJECTED).order_by("line", "id")
    ]
    return as_file(files.write([*headers, "ligne", "motif"], lines), f"rejets-{batch.dictionary}-{batch.pk}.csv")
