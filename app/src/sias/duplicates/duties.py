"""Look for duplicates at night, a year of birth per turn."""

from django.db.models import Max, Min

from sias.duplicates import detection
from sias.platform.duties import duty
from sias.repertoire.models import Person

_left: list[int] = []  # years still to look at in this round


@duty("find-duplicates", every=24 * 3600)
def find() -> tuple[str, bool]:
    """Look at one year; more at once until all are done, then at households."""
    if not _left:
        span = Person.objects.using("default").aggregate(first=Min("birth_date"), last=Max("birth_date"))
        if span["first"] is None:
            return "", False
        _left.extend(range(span["first"].year, span["last"].year + 1))
    year = _left.pop(0)
    found = detection.detect(year)
    if not _left:
        found += detection.detect_households()
    return (f"{found} doublons possibles, année {year}" if found else ""), bool(_left)
