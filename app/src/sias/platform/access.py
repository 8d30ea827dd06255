"""What a view asks of the rights of an agent. Until the table of rights is there, every signed-in agent holds them."""

from collections.abc import Callable

from django.core.exceptions import PermissionDenied
from django.db import models


def requires(domain: str, action: str) -> Callable:
    """Mark a view with the right that it needs."""

    def marked(view: Callable) -> Callable:
        view.sias_requires = (domain, action)
        return view

    return marked


def can(agent: object, domain: str, action: str, target: models.Model | None = None) -> bool:  # noqa: ARG001
    """Tell whether the agent may do the action, on this object when one is given."""
    return bool(agent.is_active)


def check(agent: object, domain: str, action: str, target: models.Model | None = None) -> None:
    """Raise PermissionDenied unless the agent may."""
    if not can(agent, domain, action, target):
        raise PermissionDenied
