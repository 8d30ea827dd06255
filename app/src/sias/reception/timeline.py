"""The timeline of a person. Modules register sources; the page merges them, the latest first.

@source("documents", "Documents")
def documents(request, person, before, limit):
return [Moment(at, "Document ajouté", name, address), ...]   # before `before`, at most `limit`, the latest first
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice

from django.http import HttpRequest

from sias.repertoire.models import Person


@dataclass(frozen=True)
class Moment:
    """Something that happened."""

    at: datetime
    what: str
    detail: str = ""
    url: str = ""
    who: str = ""
    source: str = ""


Finder = Callable[[HttpRequest, Person, datetime, int], Iterable[Moment]]
SOURCES: dict[str, tuple[str, Finder]] = {}


def source(code: str, label: str) -> Callable[[Finder], Finder]:
    """Register a source."""

    def add(finder: Finder) -> Finder:
        SOURCES[code] = (label, finder)
        return finder

    return add


def moments(request: HttpRequest, person: Person, before: datetime, limit: int, only: str = "") -> list[Moment]:
    """Return the latest moments before an instant, of one source or of all."""
    chosen = [SOURCES[only]] if only in SOURCES else SOURCES.values()
    streams = [list(finder(request, person, before, limit)) for _label, finder in chosen]
    return list(islice(merge(*streams, key=lambda moment: moment.at, reverse=True), limit))
