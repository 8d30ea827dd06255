"""Forms of notes. No field asks the database."""

from datetime import date, timedelta

from django import forms
from django.utils import timezone

from sias.notes.models import Note

PINNED = timedelta(days=30)  # how long an alert stays above the file when nothing else is said


class NoteForm(forms.Form):
    """A note, an alert, an interview, a social report."""

    kind = forms.ChoiceField(label="Type", choices=Note.Kind.choices)
    visibility = forms.ChoiceField(label="Qui peut la lire", choices=Note.Visibility.choices)
    person = forms.ChoiceField(label="Personne concernée", required=False)
    happened_on = forms.DateField(
        label="Date",
        input_formats=["%d/%m/%Y", "%Y-%m-%d"],
        help_text="Du fait ou de l'entretien : jj/mm/aaaa",
        widget=forms.DateInput(format="%d/%m/%Y", attrs={"inputmode": "numeric", "placeholder": "jj/mm/aaaa"}),
        error_messages={"invalid": "Cette date n'existe pas. Écrivez-la comme 31/12/2025."},
    )
    body = forms.CharField(
        label="Texte",
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 8}),
        help_text="Des faits, utiles à l'accompagnement : la personne peut demander à lire cette note.",
    )
    pinned_until = forms.DateField(
        label="Épingler en haut de la fiche jusqu'au",
        required=False,
        input_formats=["%d/%m/%Y", "%Y-%m-%d"],
        help_text="Une alerte l'est 30 jours si vous laissez vide.",
        widget=forms.DateInput(format="%d/%m/%Y", attrs={"inputmode": "numeric", "placeholder": "jj/mm/aaaa"}),
        error_messages={"invalid": "Cette date n'existe pas. Écrivez-la comme 31/12/2025."},
    )
    version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: object, members: list[tuple[str, str]] | None = None, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        if members is None:  # shown again while there is no database
            posted = self.data.get("person", "") if self.data else ""
            members = [(posted, f"Personne n° {posted}")] if posted else []
        self.fields["person"].choices = [("", "Le ménage entier"), *members]

    def clean_happened_on(self) -> date:
        """Nothing that is noted lies ahead."""
        day = self.cleaned_data["happened_on"]
        if not date(1900, 1, 1) <= day <= timezone.localdate():
            raise forms.ValidationError("La date ne peut pas être dans le futur.")
        return day

    def clean(self) -> dict:
        """An alert is pinned, for a time."""
        data = super().clean()
        today = timezone.localdate()
        if data.get("kind") == Note.Kind.ALERT and not data.get("pinned_until") and "pinned_until" not in self.errors:
            data["pinned_until"] = today + PINNED
        if data.get("pinned_until") and data["pinned_until"] > today + timedelta(days=366):
            self.add_error("pinned_until", "Une note s'épingle un an au plus : une alerte qui dure ne s'entend plus.")
        return data
