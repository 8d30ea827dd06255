"""Pages that every module has: one form on one page, with what was typed kept when it is refused."""

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from sias.platform.idempotency import key_of, new_key

DATES = ["%d/%m/%Y", "%Y-%m-%d"]


def date_field(label: str, **options: object) -> forms.DateField:
    """Return a field for a civil date as people write it."""
    return forms.DateField(
        label=label,
        input_formats=DATES,
        widget=forms.DateInput(format="%d/%m/%Y", attrs={"placeholder": "jj/mm/aaaa", "inputmode": "numeric"}),
        error_messages={"invalid": "Écrivez la date comme 31/12/2026.", "required": "Indiquez la date."},
        **options,
    )


def form_page(
    request: HttpRequest,
    form: forms.Form,
    title: str,
    *,
    crumbs: list[tuple[str, str]],
    back: str,
    submit: str = "Enregistrer",
    status: int = 200,
    help_text: str = "",
    fresh_key: bool = False,
) -> HttpResponse:
    """Show a form. `crumbs` are (label, address) above the title, `back` where Annuler leads."""
    return render(
        request,
        "parts/form_page.html",
        {
            "form": form,
            "title": title,
            "crumbs": crumbs,
            "back": back,
            "submit": submit,
            "help_text": help_text,
            "idempotency_key": new_key() if fresh_key else key_of(request) or new_key(),
        },
        status=status,
    )
