"""The main navigation. A module registers its entries in its AppConfig's `ready`; an agent sees those they may use."""

from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import reverse

from sias.habilitations.rights import can


@dataclass(frozen=True, order=True)
class Item:
    """An entry: `order` places it, `requires` is the right that shows it."""

    order: int
    label: str
    view: str
    requires: tuple[str, str]


ITEMS: list[Item] = []


def register(label: str, view: str, requires: tuple[str, str], *, order: int = 50) -> None:
    """Add an entry; `view` is the name of an address without arguments."""
    ITEMS.append(Item(order, label, view, requires))


def menu_context(request: HttpRequest) -> dict:
    """The entries of this agent, the current one marked."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    shown = [
        {"label": item.label, "url": reverse(item.view), "current": request.path == reverse(item.view)}
        for item in sorted(ITEMS)
        if can(user, *item.requires)
    ]
    return {"menu": shown, "may_search": can(user, "repertoire", "rechercher")}
