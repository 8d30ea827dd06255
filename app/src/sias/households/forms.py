"""Forms of the household file. No field asks the database."""

from datetime import date

from django import forms
from django.utils import timezone

from sias.households.models import Move


class MoveForm(forms.Form):
    """Who moves, where to, from when on, why."""

    persons = forms.MultipleChoiceField(
        label="Qui change de ménage ?",
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choisissez au moins une personne."},
    )
    target = forms.CharField(
        label="Numéro du ménage rejoint",
        max_length=10,
        required=False,
        help_text="F suivi de 8 chiffres. Vide : un nouveau ménage est créé.",
    )
    effective_on = forms.DateField(
        label="Date d'effet",
        input_formats=["%d/%m/%Y", "%Y-%m-%d"],
        help_text="jj/mm/aaaa",
        widget=forms.DateInput(format="%d/%m/%Y", attrs={"placeholder": "jj/mm/aaaa", "inputmode": "numeric"}),
        error_messages={"invalid": "Cette date n'existe pas. Écrivez-la comme 31/12/2025."},
    )
    reason = forms.ChoiceField(label="Motif", choices=[("", "Choisir"), *Move.Reason.choices])
    comment = forms.CharField(label="Précision", max_length=300, required=False)

    def __init__(self, *args: object, members: list[tuple[str, str]] | None = None, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["persons"]
        if members is None:  # shown again while there is no database: what was posted is all that is known
            posted = self.data.getlist("persons") if hasattr(self.data, "getlist") else []
            members = [(value, f"Personne n° {value}") for value in posted]
        field.choices = members

    def clean_target(self) -> str:
        """Numbers are written in capitals, without the dash that people put in."""
        return self.cleaned_data["target"].strip().upper().replace("-", "").replace(" ", "")

    def clean(self) -> dict:
        """A free reason needs its words."""
        data = super().clean()
        if data.get("reason") == Move.Reason.OTHER and not data.get("comment", "").strip():
            self.add_error("comment", "Précisez le motif.")
        return data


class PastForm(forms.Form):
    """A day."""

    le = forms.DateField(
        label="État au",
        input_formats=["%d/%m/%Y", "%Y-%m-%d"],
        error_messages={
            "invalid": "Cette date n'existe pas. Écrivez-la comme 31/12/2025.",
            "required": "Indiquez une date.",
        },
    )

    def clean_le(self) -> date:
        """History knows no future."""
        day = self.cleaned_data["le"]
        if day > timezone.localdate():
            raise forms.ValidationError("Cette date est dans le futur.")
        return day
