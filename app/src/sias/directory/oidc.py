"""Sign-in through an OpenID Connect provider such as ProConnect: authorization code with PKCE, state and nonce.

mozilla-django-oidc does the exchange; La Suite numérique uses it for ProConnect, too. Ours: addresses come from the
provider's own description, tokens must be meant for us, only agents known here get in, and nobody is created.
"""

import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlencode

import jwt
import requests
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.crypto import get_random_string
from mozilla_django_oidc import auth, views

from sias.accounts.ways import farewell
from sias.directory.models import Subject
from sias.journal.access import Action, record_access

logger = logging.getLogger("sias.directory")
DESCRIBED = {
    "OIDC_OP_AUTHORIZATION_ENDPOINT": "authorization_endpoint",
    "OIDC_OP_TOKEN_ENDPOINT": "token_endpoint",
    "OIDC_OP_USER_ENDPOINT": "userinfo_endpoint",
    "OIDC_OP_JWKS_ENDPOINT": "jwks_uri",
}
FRESH = 3600  # s during which a description is not asked for again
_known: dict[str, tuple[float, dict]] = {}  # by issuer


def enabled() -> bool:
    """Tell whether agents may come this way."""
    return bool(settings.OIDC_ISSUER)


def description() -> dict:
    """Return how the provider describes itself. Raises requests.RequestException, SuspiciousOperation."""
    issuer = settings.OIDC_ISSUER
    at, found = _known.get(issuer, (0.0, {}))
    if not found or time.monotonic() - at > FRESH:
        answer = requests.get(
            f"{issuer.rstrip('/')}/.well-known/openid-configuration",
            timeout=settings.OIDC_TIMEOUT,
            verify=settings.OIDC_VERIFY_SSL,
        )
        answer.raise_for_status()
        found = answer.json()
        if found.get("issuer") != issuer:
            raise SuspiciousOperation(f"the provider calls itself {found.get('issuer')!r}")
        _known[issuer] = (time.monotonic(), found)
    return found


def _setting(name: str, *default: object) -> object:
    """Return a setting as mozilla-django-oidc asks for it."""
    if name in DESCRIBED:
        return description()[DESCRIBED[name]]
    return auth.import_from_settings(name, *default)


class ProviderBackend(auth.OIDCAuthenticationBackend):
    """Who comes back from the provider. The parent's constructor asks for every address; each page makes one of us."""

    get_settings = staticmethod(_setting)
    get_user = ModelBackend.get_user  # which knows closed accounts
    OIDC_OP_TOKEN_ENDPOINT = property(lambda _self: _setting("OIDC_OP_TOKEN_ENDPOINT"))
    OIDC_OP_USER_ENDPOINT = property(lambda _self: _setting("OIDC_OP_USER_ENDPOINT"))
    OIDC_OP_JWKS_ENDPOINT = property(lambda _self: _setting("OIDC_OP_JWKS_ENDPOINT"))
    OIDC_RP_IDP_SIGN_KEY = None

    def __init__(self) -> None:
        self.UserModel = auth.get_user_model()
        self.OIDC_RP_CLIENT_ID = settings.OIDC_RP_CLIENT_ID
        self.OIDC_RP_CLIENT_SECRET = settings.OIDC_RP_CLIENT_SECRET
        self.OIDC_RP_SIGN_ALGO = settings.OIDC_RP_SIGN_ALGO

    def authenticate(self, request: HttpRequest, *, nonce: str, code_verifier: str) -> object | None:
        """Exchange the code. With these arguments alone: a password never comes here."""
        return super().authenticate(request, nonce=nonce, code_verifier=code_verifier)

    def verify_token(self, token: str, **kwargs: object) -> dict:
        """Check signature and nonce, and that the token is the provider's, for us and, when it signs in, not for ever."""
        payload = super().verify_token(token, **kwargs)
        audience = payload.get("aud")
        audience = [audience] if isinstance(audience, str) else audience or []
        if payload.get("iss") != settings.OIDC_ISSUER or self.OIDC_RP_CLIENT_ID not in audience:
            raise SuspiciousOperation("the token is another provider's, or for another application")
        if "nonce" in kwargs and "exp" not in payload:
            raise SuspiciousOperation("the token never ends")
        return payload

    def get_or_create_user(self, access_token: str, id_token: str, payload: dict) -> object | None:
        """Return the agent, who must be known and active; None otherwise, which the access log keeps."""
        claims = self.get_userinfo(access_token, id_token, payload)
        if not payload.get("sub") or claims.get("sub") != payload["sub"]:
            raise SuspiciousOperation("token and description speak of different persons")
        agent, why = self._agent(payload["sub"], str(claims.get("email") or ""), claims)
        if agent is None:
            unknown = self.UserModel(username=str(claims.get("email") or "")[:150])
            record_access(unknown, None, Action.SIGN_IN_FAILED, f"{settings.OIDC_ISSUER} : {why}", after=True)
        return agent

    def _agent(self, subject: str, email: str, claims: dict) -> tuple[object | None, str]:
        known = Subject.objects.using("default").select_related("agent")
        if found := known.filter(issuer=settings.OIDC_ISSUER, subject=subject).first():
            return (found.agent, "") if found.agent.is_active else (None, "compte fermé")
        if not email or claims.get("email_verified") is False:
            return None, "sans adresse vérifiée"
        agents = self.UserModel.objects.using("default").filter(email__iexact=email, is_active=True)
        # Who has a password here signs in with it: these are accounts of installations and of last resort.
        agents = [agent for agent in agents[:2] if not agent.has_usable_password()]
        if len(agents) != 1:
            return None, "plusieurs agents à cette adresse" if agents else "aucun agent à cette adresse"
        if known.filter(issuer=settings.OIDC_ISSUER, agent=agents[0]).exists():
            return None, "agent déjà venu sous une autre identité"
        Subject.objects.create(issuer=settings.OIDC_ISSUER, subject=subject, agent=agents[0])
        return agents[0], ""


class _Ask(views.OIDCAuthenticationRequestView):
    get_settings = staticmethod(_setting)


class _Callback(views.OIDCAuthenticationCallbackView):
    get_settings = staticmethod(_setting)

    def login_failure(self) -> HttpResponse:
        """Back to the form, with a sentence."""
        return _failed(self.request)


def _failed(request: HttpRequest) -> HttpResponse:
    messages.error(
        request,
        "Votre identité n'a pas permis d'entrer : aucun agent actif de SIAS ne lui correspond, ou la demande a expiré. "
        "Recommencez, ou adressez-vous à l'administrateur de l'application.",
    )
    return redirect("sign_in")


def _through_the_provider(view: Callable) -> Callable:
    """Wrap a view that strangers may open: nothing that goes wrong on the way is an error of this application."""

    def wrapper(request: HttpRequest) -> HttpResponse:
        if not enabled() or request.method != "GET":
            return redirect("sign_in")
        try:
            return view(request)
        except requests.RequestException as error:
            if error.response is not None and error.response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
                logger.warning("the provider refused: %s", error)
                return _failed(request)
            logger.error("the provider is away: %s", error)  # noqa: TRY400 - said in full
            response = render(request, "directory/away.html", {"label": settings.OIDC_LABEL}, status=503)
            response["Retry-After"] = str(settings.SIAS_RETRY_AFTER)
            return response
        except (SuspiciousOperation, jwt.PyJWTError, KeyError, ValueError, TypeError) as error:
            logger.warning("no sign-in through the provider: %s: %s", type(error).__name__, error)
            return _failed(request)

    wrapper.login_required = False
    return wrapper


@_through_the_provider
def ask(request: HttpRequest) -> HttpResponse:
    """Lead to the provider."""
    return _Ask.as_view()(request)


@_through_the_provider
def callback(request: HttpRequest) -> HttpResponse:
    """Come back from the provider, to a question that this browser had asked."""
    if request.GET.get("state") not in request.session.get("oidc_states", {}):
        return _failed(request)
    return _Callback.as_view()(request)


@farewell
def leave(request: HttpRequest) -> HttpResponse | None:
    """Sign out at the provider, too: a page that goes on there, as a form may lead to no other site."""
    token = request.session.get("oidc_id_token")
    if not (enabled() and token):
        return None
    try:
        address = description().get("end_session_endpoint")
    except (requests.RequestException, SuspiciousOperation, ValueError):
        return None
    if not address:
        return None
    query = urlencode(
        {
            "id_token_hint": token,
            "state": get_random_string(32),
            "post_logout_redirect_uri": request.build_absolute_uri(reverse("sign_in")),
        }
    )
    return render(request, "directory/farewell.html", {"address": f"{address}?{query}", "label": settings.OIDC_LABEL})
