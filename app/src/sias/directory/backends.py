"""Sign-in with the directory's password, which is asked there each time and kept nowhere."""

import logging

from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.utils import timezone

from sias.accounts.ways import SignInUnavailableError
from sias.directory import client, entries, passes
from sias.directory.models import Card

logger = logging.getLogger("sias.directory")
AWAY = (
    "L'annuaire du Département ne répond pas : votre mot de passe ne peut pas être vérifié. Ce n'est pas une erreur de "
    "votre part. Les agents déjà connectés continuent de travailler ; réessayez dans quelques minutes."
)


class DirectoryBackend(ModelBackend):
    """Agents whom the directory knows. Others are left to the next backend, without a question to any server."""

    def authenticate(
        self,
        request: HttpRequest | None,  # noqa: ARG002 - Django's interface
        username: str | None = None,
        password: str | None = None,
    ) -> object | None:
        """Return the agent. Raises PermissionDenied, after which no other backend is asked, SignInUnavailableError."""
        if not (passes.enabled() and settings.SIAS_LDAP_SIGN_IN and username and password):
            return None
        name = username.strip().lower()
        card = Card.objects.using("default").select_related("agent").filter(agent__username=name).first()
        if card is None:
            return None
        try:
            entry, right = client.sign_in(card.entry, password)
        except client.DirectoryAwayError as away:
            logger.error("nobody can sign in with the directory: %s", away)  # noqa: TRY400 - said in full
            raise SignInUnavailableError(AWAY) from away
        if not right or not self.user_can_authenticate(card.agent):
            raise PermissionDenied
        try:
            gone = entries.why_gone(entry, timezone.now())
        except ValueError as error:
            gone = str(error)
        if gone:  # the next pass locks them out; they do not get in before
            logger.warning("%s may not sign in any more: %s", name, gone)
            raise PermissionDenied
        return card.agent
