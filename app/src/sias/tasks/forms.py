"""Forms of the box. No field asks the database: names of agents are resolved by the view."""

from django import forms


class ActForm(forms.Form):
    """An action on a task."""

    version = forms.IntegerField(widget=forms.HiddenInput)
    to = forms.CharField(label="Déléguer à", max_length=150, required=False)
    note = forms.CharField(label="Commentaire", max_length=500, required=False)


class AbsenceForm(forms.Form):
    """An absence and who stands in."""

    substitute = forms.CharField(label="Remplaçant", max_length=150, help_text="Identifiant ou nom d'un collègue.")
    since = forms.DateField(
        label="Du",
        input_formats=["%d/%m/%Y", "%Y-%m-%d"],
        widget=forms.DateInput(attrs={"placeholder": "jj/mm/aaaa", "inputmode": "numeric"}),
        error_messages={"invalid": "Écrivez la date comme 31/12/2026."},
    )
    until = forms.DateField(
        label="Au (dernier jour compris)",
        input_formats=["%d/%m/%Y", "%Y-%m-%d"],
        widget=forms.DateInput(attrs={"placeholder": "jj/mm/aaaa", "inputmode": "numeric"}),
        error_messages={"invalid": "Écrivez la date comme 31/12/2026."},
    )

    def clean(self) -> dict:
        """An absence ends after it began."""
        data = super().clean()
        if data.get("since") and data.get("until") and data["until"] < data["since"]:
            self.add_error("until", "Le dernier jour est avant le premier.")
        return data
