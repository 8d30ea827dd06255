"""Signing in, failing to, and signing out are accesses too."""

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest

from sias.journal.access import Action, record_access


@receiver(user_logged_in)
def signed_in(user: object, **_kwargs: object) -> None:
    """Somebody signed in."""
    record_access(user, None, Action.SIGN_IN)


@receiver(user_logged_out)
def signed_out(user: object, **_kwargs: object) -> None:
    """Somebody signed out."""
    if user is not None:
        record_access(user, None, Action.SIGN_OUT)


@receiver(user_login_failed)
def failed(credentials: dict, request: HttpRequest | None = None, **_kwargs: object) -> None:
    """Somebody gave a wrong password; the name is kept as typed, the password never."""
    name = str(credentials.get("username", ""))[:150]
    record_access(get_user_model()(username=name), None, Action.SIGN_IN_FAILED, after=request is not None)
