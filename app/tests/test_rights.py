"""Who may see what, and what every answer carries."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.test import Client, override_settings
from django.urls import get_resolver
from sias.habilitations.table import table
from sias.platform import failover

from tests.conftest import PASSWORD, make_agent, manage, sign_in

OPEN = {"sign_in", "live", "ready", "metrics"}


def addresses() -> list[tuple[str, str]]:
    found = []
    for pattern in get_resolver().url_patterns:
        if str(pattern.pattern).startswith("api/"):
            continue  # keys take the place of sessions: test_api.py
        for inner in getattr(pattern, "url_patterns", [pattern]):
            path = "/" + str(inner.pattern).replace("<int:identity>", "1").replace(
                "<uuid:identity>", "00000000-0000-0000-0000-000000000000"
            )
            path = re.sub(r"<(?:slug|str):[a-z]+>", "suivi", path)
            found.append((inner.name, path))
    return found


def views(patterns=None) -> list[tuple[str, object]]:
    found = []
    for pattern in patterns if patterns is not None else get_resolver().url_patterns:
        if hasattr(pattern, "url_patterns"):
            found += views(pattern.url_patterns)
        else:
            found.append((str(pattern.pattern), pattern.callback))
    return found


@pytest.mark.parametrize(("address", "view"), views(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_view_says_who_may_use_it(address, view):
    if not getattr(view, "login_required", True):
        return
    rule = getattr(view, "sias_requires", None)
    assert rule is not None, "no @requires: nobody gets in"
    assert rule == () or table().knows(*rule), rule


def test_the_list_of_addresses_is_not_empty():
    assert len(addresses()) >= 12


@pytest.mark.parametrize(("name", "path"), addresses())
def test_a_stranger_sees_nothing_but_the_sign_in(name, path):
    for method in ("get", "post"):
        response = getattr(Client(raise_request_exception=False), method)(path)
        if name in OPEN:
            assert response.status_code in {200, 405}
        else:
            assert response.status_code == 302, path
            assert response["Location"].startswith("/connexion/"), path


@pytest.mark.parametrize(("name", "path"), addresses())
def test_every_answer_names_its_room_and_forbids_scripts_and_copies(client, name, path):
    response = client.get(path)
    assert response["X-SIAS-Room"] == "a"
    assert response["X-SIAS-Host"] == "test-a1"
    assert "default-src 'none'" in response["Content-Security-Policy"]
    assert "unsafe" not in response["Content-Security-Policy"]
    assert "no-store" in response["Cache-Control"]
    assert response["X-Frame-Options"] == "DENY"


def test_pages_have_no_inline_script_or_style(client):
    for path in ("/repertoire/?q=muller", "/personnes/1/", "/foyers/1/", "/personnes/nouvelle/", "/rien"):
        page = client.get(path).content.decode()
        assert "<style" not in page
        assert " style=" not in page
        assert " onclick=" not in page
        assert page.count("<script") == page.count("<script src=")


def test_signing_in_and_out_with_the_form():
    client = Client(raise_request_exception=False)
    assert client.get("/repertoire/")["Location"] == "/connexion/?next=/repertoire/"
    refused = client.post("/connexion/", {"username": "agent", "password": "faux"})
    assert refused.status_code == 200
    assert "inconnu" in refused.content.decode()
    assert client.post("/connexion/", {"username": "agent", "password": PASSWORD})["Location"] == "/"
    assert "Alex Agent" in client.get("/repertoire/").content.decode()
    client.post("/deconnexion/")
    assert client.get("/repertoire/").status_code == 302


def test_nobody_is_led_to_another_site_after_signing_in():
    response = Client().post("/connexion/?next=https://ailleurs.example/", {"username": "agent", "password": PASSWORD})
    assert response["Location"] == "/"


def test_a_closed_account_is_out_at_once(database):
    make_agent("parti", "TS")
    client = sign_in("parti")
    assert client.get("/repertoire/").status_code == 200
    get_user_model().objects.filter(username="parti").update(is_active=False)
    assert client.get("/repertoire/").status_code == 302


def test_a_write_without_a_csrf_token_is_refused(identity):
    client = sign_in()
    client.handler.enforce_csrf_checks = True
    assert client.post("/personnes/nouvelle/", identity).status_code == 403


def test_the_mark_of_the_last_write_cannot_be_forged(client):
    client.cookies[failover.POSITION_COOKIE] = "FFFFFFFF/FFFFFFFF:forged:signature"
    assert client.get("/repertoire/?q=muller").status_code == 200


def test_cookies_are_secure_when_deployed():
    done = manage(
        "shell",
        "-c",
        "from django.conf import settings as s; print(s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, "
        "s.SESSION_COOKIE_HTTPONLY, s.SECURE_HSTS_SECONDS > 0)",
        user="sias_app",
        check=False,
        SIAS_ENVIRONMENT="lab",
    )
    assert done.returncode != 0
    assert "credential" in done.stderr  # and it does not start without its secrets


def test_the_deployment_check_of_django_is_clean(tmp_path):
    for name in ("secret_key", "identifier_key", "database_password"):
        (tmp_path / name).write_text("x9" + "aBcDeF0123456789" * 5)
    done = manage(
        "check",
        "--deploy",
        "--fail-level",
        "WARNING",
        user="sias_app",
        SIAS_ENVIRONMENT="lab",
        SIAS_CREDENTIALS_DIR=str(tmp_path),
    )
    assert "no issues" in done.stdout


def test_a_missing_page_and_a_defect_are_told_in_french(client, monkeypatch):
    assert "n'existe pas" in client.get("/rien").content.decode().replace("&#x27;", "'")
    monkeypatch.setattr("sias.repertoire.views.services.composition", lambda *_: 1 / 0)
    response = client.get("/personnes/1/")
    assert response.status_code == 500
    assert "erreur inattendue" in response.content.decode()


def test_the_application_role_owns_nothing_and_cannot_change_the_schema(cluster):
    assert cluster.sql("SELECT count(*) FROM pg_class WHERE pg_get_userbyid(relowner) = 'sias_app'") == [(0,)]
    with cluster.connect(user="sias_app") as connection:
        for statement in (
            "TRUNCATE repertoire_person",
            "DROP TABLE repertoire_person",
            "CREATE TABLE x (a int)",
            "DELETE FROM django_migrations",
        ):
            with pytest.raises(Exception, match=r"permission denied|must be owner"):
                connection.execute(statement)


def test_unknown_hosts_are_refused(client):
    with override_settings(ALLOWED_HOSTS=["sias.example"]):
        assert client.get("/repertoire/").status_code == 400
