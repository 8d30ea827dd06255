"""Forms of the dictionaries. No field asks the database."""

from datetime import date

from django import forms
from django.utils import timezone

from sias.dictionaries.catalogue import Dictionary
from sias.platform.pages import date_field

WAIT_MOST = 366 * 2  # days ahead that a change may be prepared


class EntryForm(forms.Form):
    """The columns of a dictionary, and from when they count."""

    def __init__(self, dictionary: Dictionary, *args: object, key: tuple = (), **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.dictionary = dictionary
        for column in dictionary.columns:
            shared = {"label": column.label, "required": column.required, "help_text": column.help}
            if column.choices:
                made = forms.ChoiceField(choices=[("", "Choisir"), *column.choices], **shared)
            else:
                attributes = {"list": column.refers} if column.refers else {}
                widget = forms.TextInput(attrs={"autocomplete": "off", **attributes})
                made = forms.CharField(max_length=column.longest, widget=widget, **shared)
            # The key of an entry is what everything else refers to: it never changes.
            made.disabled = bool(key) and column.field in dictionary.key
            self.fields[column.field] = made
        self.fields["since"] = date_field(
            "Applicable à partir du", help_text="Avant ce jour, rien ne change : l'ancienne version reste consultable."
        )
        self.fields["until"] = date_field("Jusqu'au", required=False, help_text="Premier jour où ce n'est plus vrai.")
        self.fields["seen"] = forms.CharField(max_length=64, required=False, widget=forms.HiddenInput)

    def clean(self) -> dict:
        """Dates in order and not absurd."""
        data = super().clean()
        since, until = data.get("since"), data.get("until")
        if since and abs((since - timezone.localdate()).days) > WAIT_MOST and since.year > date.min.year:
            self.add_error("since", "À deux ans d'aujourd'hui au plus.")
        if since and until and until <= since:
            self.add_error("until", "La fin doit suivre le début.")
        return data


class EndForm(forms.Form):
    """From when an entry is no longer in force."""

    day = date_field("N'est plus en vigueur à partir du")


class UploadForm(forms.Form):
    """A file, and from when it counts."""

    fichier = forms.FileField(
        label="Fichier CSV",
        max_length=200,
        error_messages={"required": "Choisissez un fichier.", "empty": "Ce fichier est vide."},
    )
    since = date_field("Applicable à partir du", help_text="Pour les lignes sans date « depuis ».")
    complete = forms.BooleanField(
        label="Liste complète : fermer les entrées que le fichier ne nomme pas", required=False
    )
