"""Sign-in through an OpenID Connect provider: who gets in, who does not, and what happens while it is away."""

import re
import uuid
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client, override_settings
from sias.accounts.ways import WAYS
from sias.directory import oidc
from sias.directory.models import Subject
from sias.directory.passes import end_sessions
from sias.habilitations.services import install

from tests.conftest import make_agent
from tests.provider import CLIENT, SECRET, Provider

FORM = "/connexion/"


@pytest.fixture
def provider():
    made = Provider()
    oidc._known.clear()
    with override_settings(
        OIDC_ISSUER=made.issuer,
        OIDC_RP_CLIENT_ID=CLIENT,
        OIDC_RP_CLIENT_SECRET=SECRET,
        AUTHENTICATION_BACKENDS=[*settings.AUTHENTICATION_BACKENDS, "sias.directory.oidc.ProviderBackend"],
    ):
        yield made
    made.stop()


@pytest.fixture
def known(provider):
    """An agent without a password here, whom the provider knows too."""
    name = f"o{uuid.uuid4().hex[:10]}"
    agent = get_user_model()(username=name, first_name="Claude", last_name="Fédéré", email=f"{name}@moselle.example")
    agent.set_unusable_password()
    agent.save()
    install(agent, "TS")
    provider.claims = {"sub": f"sub-{name}", "email": agent.email.upper()}
    return agent


def leave(client: Client, following: str = "") -> str:
    """Follow the link of the form; return where the browser is led."""
    response = client.get("/connexion/identite/" + (f"?next={following}" if following else ""))
    assert response.status_code == 302
    return response["Location"]


def come_back(client: Client, address: str):
    parts = urlsplit(address)
    return client.get(f"{parts.path}?{parts.query}")


def enter(provider: Provider, following: str = ""):
    client = Client(raise_request_exception=False)
    return client, come_back(client, provider.authorise(leave(client, following)))


def refused(response) -> bool:
    return response.status_code == 302 and response["Location"] == FORM


def test_a_known_agent_gets_in_and_is_known_by_identity_afterwards(provider, known):
    client, response = enter(provider, "/taches/")
    assert response["Location"] == "/taches/"
    assert "Claude Fédéré" in client.get("/repertoire/").content.decode()
    assert Subject.objects.get(agent=known).subject == provider.claims["sub"]
    known.email = "autre@moselle.example"
    known.save()
    assert enter(provider)[1]["Location"] == "/"


def test_a_description_without_a_signature_will_do(provider, known):
    provider.signed_description = False
    assert enter(provider)[1]["Location"] == "/"


def test_the_question_carries_state_nonce_and_proof_and_never_leads_elsewhere(provider, known):
    client = Client()
    asked = parse_qs(urlsplit(leave(client, "https://ailleurs.example/")).query)
    assert {"state", "nonce", "code_challenge", "redirect_uri"} <= asked.keys()
    assert asked["redirect_uri"] == ["http://testserver/connexion/identite/retour/"]
    assert enter(provider, "https://ailleurs.example/")[1]["Location"] == "/"


@pytest.mark.parametrize(
    "claims",
    [
        {"email": "inconnue@moselle.example"},
        {"email": ""},
        {"email_verified": False},
        {"sub": ""},
    ],
    ids=["unknown", "no address", "not verified", "nobody"],
)
def test_whoever_is_not_known_stays_out(provider, known, claims):
    provider.claims |= claims
    client, response = enter(provider)
    assert refused(response)
    assert "n'a pas permis d'entrer" in client.get(FORM).content.decode().replace("&#x27;", "'")
    assert client.get("/repertoire/").status_code == 302
    assert not Subject.objects.filter(agent=known).exists()


def test_an_address_of_two_agents_lets_nobody_in(provider, known):
    twin = get_user_model()(username=f"o{uuid.uuid4().hex[:10]}", email=known.email)
    twin.set_unusable_password()
    twin.save()
    assert refused(enter(provider)[1])


def test_an_account_with_a_password_of_ours_is_not_taken_by_its_address(provider):
    mine = make_agent(f"l{uuid.uuid4().hex[:10]}", "AN", email="secours@moselle.example")
    provider.claims = {"sub": "imposteur", "email": mine.email}
    assert refused(enter(provider)[1])


def test_another_identity_does_not_take_an_agent_over_by_address(provider, known):
    assert enter(provider)[1]["Location"] == "/"
    provider.claims |= {"sub": "une autre"}
    assert refused(enter(provider)[1])


def test_whoever_left_is_out_and_stays_out(provider, known):
    client, _ = enter(provider)
    assert client.get("/repertoire/").status_code == 200
    get_user_model().objects.filter(pk=known.pk).update(is_active=False)
    assert client.get("/repertoire/").status_code == 302
    assert refused(enter(provider)[1])
    get_user_model().objects.filter(pk=known.pk).update(is_active=True)
    client, _ = enter(provider)
    assert end_sessions({known.pk}) == 2  # the first, too, which would have come to life again
    assert client.get("/repertoire/").status_code == 302


@pytest.mark.parametrize(
    "spoilt",
    [
        {"iss": "https://ailleurs.example"},
        {"aud": "another application"},
        {"nonce": "another"},
        {"exp": 1},
        {"exp": None},
        {"sub": "somebody else"},
    ],
    ids=lambda spoilt: "-".join(f"{name}-{value}" for name, value in spoilt.items()),
)
def test_a_token_that_is_not_for_us_now_lets_nobody_in(provider, known, spoilt):
    provider.signed_description = False
    provider.spoil = lambda payload: {name: value for name, value in (payload | spoilt).items() if value is not None}
    assert refused(enter(provider)[1])


def test_a_token_that_another_key_signed_lets_nobody_in(provider, known):
    other = Provider()
    provider.sign = other.sign
    assert refused(enter(provider)[1])
    other.stop()


def test_a_return_counts_once_and_only_in_the_browser_that_asked(provider, known):
    client = Client(raise_request_exception=False)
    back = provider.authorise(leave(client))
    assert refused(come_back(Client(raise_request_exception=False), back))
    assert come_back(client, back)["Location"] == "/"
    assert refused(come_back(client, back))


def test_a_refusal_at_the_provider_is_told_in_words(provider, known):
    client = Client(raise_request_exception=False)
    state = parse_qs(urlsplit(leave(client)).query)["state"][0]
    assert refused(client.get(f"/connexion/identite/retour/?error=access_denied&state={state}"))


def test_nobody_is_signed_out_by_a_link(provider, known):
    client, _ = enter(provider)
    assert refused(client.get("/connexion/identite/retour/?error=access_denied&state=x"))
    assert client.get("/repertoire/").status_code == 200


def test_signing_out_ends_the_session_there_too(provider, known):
    client, _ = enter(provider)
    page = client.post("/deconnexion/").content.decode().replace("&amp;", "&")
    address = re.search(r'url=([^"]+)"', page).group(1)
    assert address.startswith(f"{provider.issuer}/session/end?")
    asked = parse_qs(urlsplit(address).query)
    assert asked["id_token_hint"][0].count(".") == 2
    assert asked["post_logout_redirect_uri"] == ["http://testserver/connexion/"]
    assert client.get("/repertoire/").status_code == 302


def test_while_the_provider_is_away_the_page_says_so_and_those_inside_go_on(provider, known):
    client, _ = enter(provider)
    other = Client(raise_request_exception=False)
    back = provider.authorise(leave(other))
    provider.stop()
    oidc._known.clear()
    for response in (other.get("/connexion/identite/"), come_back(other, back)):
        assert response.status_code == 503
        assert response["Retry-After"]
        assert "Connexion impossible pour le moment" in response.content.decode()
    assert client.get("/repertoire/").status_code == 200
    assert client.post("/deconnexion/")["Location"] == FORM  # here at least
    provider.server.server_close = provider.server.shutdown = lambda: None  # stopped already


def test_the_form_offers_the_way_only_where_there_is_one(provider):
    assert any(way.view == "directory:oidc" for way in WAYS)
    link = 'href="/connexion/identite/?next=/taches/"'
    assert link in Client().get("/connexion/?next=/taches/").content.decode()
    with override_settings(OIDC_ISSUER=""):
        assert "/connexion/identite/" not in Client().get(FORM).content.decode()
        assert Client().get("/connexion/identite/")["Location"] == FORM
