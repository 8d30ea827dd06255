"""What merges and moves do with notes: they follow the person they are about."""

from sias.history import words
from sias.history.models import Change
from sias.notes.models import Note
from sias.repertoire import relations

relations.register("notes.Note", "person", follows="household", words="notes")
relations.register("notes.Note", "household", words="notes")
relations.register("notes.Draft", "household")


@words.readable_by("notes_note")
def _readable(request: object, changes: list[Change]) -> set[int]:
    """History shows no more of a note than the note itself; what was once hidden is not shown by its past."""
    ids = {change.row_id for change in changes}
    allowed = {str(pk) for pk in Note.objects.filter(pk__in=ids).readable_by(request.user).values_list("pk", flat=True)}
    restricted = {
        row_id
        for row_id, before, after in Change.objects.filter(table_name="notes_note", row_id__in=ids).values_list(
            "row_id", "before__visibility", "after__visibility"
        )
        if {before, after} & {Note.Visibility.SERVICE.value, Note.Visibility.PRIVATE.value}
    }
    mine = {str(pk) for pk in Note.objects.filter(pk__in=restricted, author=request.user).values_list("pk", flat=True)}
    still = {
        str(pk)
        for pk in Note.objects.filter(pk__in=restricted, visibility=Note.Visibility.SERVICE)
        .readable_by(request.user)
        .values_list("pk", flat=True)
    }
    return {change.pk for change in changes if change.row_id in (allowed - restricted) | mine | still}
