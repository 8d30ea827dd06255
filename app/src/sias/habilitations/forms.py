"""Forms of rights. No field asks the database."""

from django import forms

from sias.habilitations.models import REASON_LEAST


class ReasonForm(forms.Form):
    """Why an exceptional access is needed."""

    motif = forms.CharField(
        label="Motif",
        min_length=REASON_LEAST,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Qui vous sollicite, et pourquoi maintenant. Ce motif sera lu.",
        error_messages={
            "required": "Un accès exceptionnel demande un motif.",
            "min_length": f"Dites-en plus : {REASON_LEAST} caractères au moins.",
        },
    )
