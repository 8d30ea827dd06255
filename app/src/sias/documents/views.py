"""Attach and download documents."""

import mimetypes
import re
import uuid
from pathlib import PurePath
from urllib.parse import quote

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.files.storage import default_storage
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST, require_safe

from sias.documents.models import Document
from sias.documents.storage import CorruptDocumentError
from sias.habilitations.rights import check, requires
from sias.journal.access import Action, record_access
from sias.platform import metrics
from sias.platform.failover import read_only
from sias.platform.idempotency import idempotent
from sias.repertoire.models import Person

# What a workstation would run when someone opens it from the downloads folder.
REFUSED = {
    ".exe",
    ".com",
    ".bat",
    ".cmd",
    ".scr",
    ".msi",
    ".ps1",
    ".vbs",
    ".js",
    ".jse",
    ".wsf",
    ".hta",
    ".lnk",
    ".jar",
    ".html",
    ".htm",
    ".svg",
    ".xhtml",
}
MEBIBYTE = 1024 * 1024


class DocumentForm(forms.Form):
    """One file."""

    fichier = forms.FileField(
        label="Document",
        max_length=200,
        error_messages={
            "required": "Choisissez un fichier.",
            "empty": "Ce fichier est vide : il n'a pas été ajouté.",
        },
    )

    def clean_fichier(self) -> object:
        """Refuse what is too large, and what a workstation would run."""
        upload = self.cleaned_data["fichier"]
        if upload.size > settings.SIAS_DOCUMENT_MAX:
            raise forms.ValidationError(
                f"Ce fichier pèse {upload.size // MEBIBYTE} Mo ; le maximum est {settings.SIAS_DOCUMENT_MAX // MEBIBYTE} Mo."
            )
        if PurePath(upload.name).suffix.lower() in REFUSED:
            raise forms.ValidationError("Les programmes et les pages web ne sont pas acceptés comme documents.")
        return upload


def _clean_name(name: str) -> str:
    name = re.sub(r"[\x00-\x1f\x7f/\\]", "", PurePath(name).name).strip() or "document"
    stem, suffix = PurePath(name).stem, PurePath(name).suffix[:20]
    return stem[: 200 - len(suffix)] + suffix


@requires("document", "creer")
@require_POST
@idempotent
def attach(request: HttpRequest, identity: int) -> HttpResponse:
    """Store the file in both rooms, then the row."""
    person = get_object_or_404(Person.objects.using("default"), pk=identity)
    check(request.user, "document", "creer", person)
    form = DocumentForm(request.POST, request.FILES)
    if not form.is_valid():
        return render(request, "documents/refused.html", {"person": person, "form": form}, status=422)
    upload = form.cleaned_data["fichier"]
    address = default_storage.save(None, upload)
    name = _clean_name(upload.name)
    document = Document.objects.create(
        id=uuid.uuid4(),
        person=person,
        name=name,
        size=upload.size,
        sha256=address.rsplit("/", 1)[-1],
        content_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
        created_by=request.user,
    )
    record_access(request.user, document, Action.CREATE, domain="document")
    metrics.DOCUMENTS.labels("attached").inc()
    messages.success(request, f"« {name} » : document enregistré dans les deux salles.")
    return HttpResponse(
        status=302,
        headers={
            "Location": f"{person.get_absolute_url()}#document-{document.pk}",
            "X-SIAS-Document": str(document.pk),
            "X-SIAS-SHA256": document.sha256,
        },
    )


@requires("document", "lire")
@read_only
@require_safe
def download(request: HttpRequest, identity: uuid.UUID) -> HttpResponse:
    """Send a document, verified before its first byte."""
    document = get_object_or_404(Document.objects.select_related("person"), pk=identity)
    check(request.user, "document", "lire", document)
    record_access(request.user, document, Action.READ, domain="document")
    tag = f'"{document.sha256}"'
    if tag in request.headers.get("If-None-Match", ""):
        return HttpResponseNotModified(headers={"ETag": tag})
    try:
        content = default_storage.read(document.sha256)
    except (CorruptDocumentError, FileNotFoundError) as error:
        missing = isinstance(error, FileNotFoundError)
        metrics.DOCUMENTS.labels("missing" if missing else "corrupt").inc()
        return render(request, "documents/damaged.html", {"document": document, "missing": missing}, status=500)
    metrics.DOCUMENTS.labels("sent").inc()
    plain = re.sub(r'[^\x20-\x7e]|["\\]', "_", document.name)
    return HttpResponse(
        content,
        content_type=document.content_type,
        headers={
            "ETag": tag,
            "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(document.name)}",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
        },
    )


attach.sias_form = DocumentForm
