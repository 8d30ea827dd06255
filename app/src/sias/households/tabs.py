"""Tabs and sections of the household file. The core knows none of the modules: each registers its own."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

from django.http import HttpRequest

from sias.repertoire.models import Household

Context = Callable[[HttpRequest, Household], dict | None]


@dataclass(frozen=True)
class Part:
    """A tab of the file, or a section of its first page. A context of None: not for this agent."""

    slug: str
    label: str
    template: str
    context: Context
    order: int


TABS: dict[str, Part] = {}
SECTIONS: list[Part] = []  # on the first page, under the members
HEADS: list[Part] = []  # above every tab: pinned alerts
SHEET: list[Part] = []  # parts of the PDF sheet


@dataclass(frozen=True)
class Asked:
    """A request of the household, of any domain: a line of its history."""

    on: date
    label: str
    state: str
    address: str
    service: str = ""


Requests = Callable[[HttpRequest, Household], Iterable[Asked]]
REQUESTS: list[Requests] = []


def tab(slug: str, label: str, template: str, order: int) -> Callable[[Context], Context]:
    """Register a tab at `/foyers/<id>/<slug>/`."""

    def add(context: Context) -> Context:
        TABS[slug] = Part(slug, label, template, context, order)
        return context

    return add


def section(label: str, template: str, order: int) -> Callable[[Context], Context]:
    """Register a section of the first page."""

    def add(context: Context) -> Context:
        SECTIONS.append(Part("", label, template, context, order))
        SECTIONS.sort(key=lambda part: part.order)
        return context

    return add


def head(label: str, template: str, order: int = 0) -> Callable[[Context], Context]:
    """Register what stands above every tab."""

    def add(context: Context) -> Context:
        HEADS.append(Part("", label, template, context, order))
        HEADS.sort(key=lambda part: part.order)
        return context

    return add


def sheet(label: str, template: str, order: int) -> Callable[[Context], Context]:
    """Register a part of the PDF sheet."""

    def add(context: Context) -> Context:
        SHEET.append(Part("", label, template, context, order))
        SHEET.sort(key=lambda part: part.order)
        return context

    return add


def requests_of(function: Requests) -> Requests:
    """Register where requests of a household are found."""
    REQUESTS.append(function)
    return function
