"""The page « Salle de contrôle » in a real browser, against a Prometheus that says what the test tells it to."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

from siasops.inventory import ROOT

PAGE = ROOT / "monitoring" / "consoles" / "salle.html"
TEXT = PAGE.read_text(encoding="utf-8")
QUESTIONS: dict[str, str] = json.loads(re.search(r'id="questions">(.*?)</script>', TEXT, re.DOTALL).group(1))  # type: ignore[union-attr]
Answers = dict[str, list[dict[str, Any]]]


def whole() -> Answers:
    """What Prometheus says of a healthy platform whose primary stands in room a."""
    now = time.time()
    both = [{"room": "a"}, {"room": "b"}]
    told: Answers = {name: [] for name in QUESTIONS}
    told |= {
        "served": [{**r, "value": 1} for r in both],
        "hosts": [{**r, "value": 2} for r in both] + [{"room": "w", "value": 1}],
        "expected": [{**r, "value": 2} for r in both] + [{"room": "w", "value": 1}],
        "primary": [{"room": "a", "host": "db-a1", "value": 1}],
        "sync": [{"room": "b", "host": "db-b1", "value": 1}],
        "lag": [{"standby": "db-b1", "value": 0.012}],
        "behind": [{"standby": "db-b1", "value": 0}],
        "lowered": [{"value": 0}],
        "requests": [{**r, "value": 27.5} for r in both],
        "errors": [],
        "slow": [{**r, "value": 0.12} for r in both],
        "bricks": [{**r, "value": 1} for r in both],
        "heal": [{**r, "value": 0} for r in both],
        "backup": [{**r, "value": now - 3600 * 5} for r in both],
        "restore": [{"repository": r["room"], "value": now - 3600 * 20} for r in both],
        "voters": [{"value": 3}],
        "voting": [{"value": 3}],
        "quorum": [{"host": "witness", "value": 1}],
        "drills": [{"drill": "room-loss", "value": 1}, {"drill": "latency", "value": 0}],
        "drilled": [{"drill": "room-loss", "value": now - 7200}, {"drill": "latency", "value": now - 60 * 30}],
        "change": [{"kind": "release", "what": "version 1.5 <b>", "value": now - 300}],
    }
    return told


class Fake(ThreadingHTTPServer):
    """Prometheus as far as the page knows it."""

    daemon_threads = True
    told: Answers


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_GET(self) -> None:
        where = urlparse(self.path)
        if where.path == "/consoles/salle.html":
            self._send(TEXT.encode(), "text/html; charset=utf-8")
            return
        if where.path != "/api/v1/query":
            self.send_error(404)  # the icon that browsers ask for
            return
        name = next(n for n, q in QUESTIONS.items() if q == parse_qs(where.query)["query"][0])
        result = [
            {"metric": {k: v for k, v in s.items() if k != "value"}, "value": [time.time(), str(s["value"])]}
            for s in self.server.told[name]
        ]
        self._send(json.dumps({"status": "success", "data": {"result": result}}).encode(), "application/json")

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def prometheus() -> Iterator[Fake]:
    server = Fake(("127.0.0.1", 0), Handler)
    server.told = whole()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def browse(server: Fake, profile: Path, *more: str) -> str:
    """The page's text as Chromium shows it, five seconds of its own time after it was opened."""
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
         "--no-first-run", "--disable-extensions", "--virtual-time-budget=5000", *more,
         f"http://127.0.0.1:{server.server_address[1]}/consoles/salle.html"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    body = re.sub(r"<(script|style).*?</\1>", "", done.stdout, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_a_whole_platform_is_told_as_such_with_both_rooms(prometheus: Fake, tmp_path: Path) -> None:
    seen = browse(prometheus, tmp_path, "--dump-dom")
    assert "La perte d'une salle ne perdrait aucune écriture" in seen
    assert "Salle A sert ses usagers primaire : db-a1" in seen
    assert "Salle B sert ses usagers copie synchrone : db-b1" in seen
    assert "retard de db-b1 12 ms" in seen
    assert "27,5 /s" in seen
    assert "sauvegarde il y a 5 h" in seen
    assert "restauration prouvée il y a 20 h" in seen
    assert "Aucune alerte" in seen
    assert "quorum : 3 votants sur 3 meneur : witness" in seen
    assert "en cours : version 1.5 &lt;b&gt; depuis 5 min" in seen
    assert seen.index("exercice latency : NON TENU") < seen.index("exercice room-loss : tenu"), "the latest first"


def test_a_lost_room_is_told_with_what_it_means_and_where_to_read(prometheus: Fake, tmp_path: Path) -> None:
    told = prometheus.told
    told["hosts"] = [{"room": "a", "value": 2}, {"room": "w", "value": 1}]
    told["served"] = [{"room": "a", "value": 1}, {"room": "b", "value": 0}]
    told["sync"] = told["lag"] = told["behind"] = []
    told["voters"] = [{"value": 2}]
    told["alerts"] = [
        {"alertname": "ReplicationLag", "severity": "warning", "value": 1},
        {"alertname": "RoomDown", "room": "b", "severity": "critical", "value": 1},
    ]
    seen = browse(prometheus, tmp_path, "--dump-dom")
    assert "La perte de la salle A perdrait des écritures" in seen
    assert "Salle B NE RÉPOND PAS" in seen
    assert "0 sur 2" in seen
    assert "quorum : 2 votants sur 3" in seen
    assert "RoomDown salle b · runbooks/alerts/RoomDown.md" in seen
    assert seen.index("RoomDown") < seen.index("ReplicationLag"), "what is critical comes first"


def test_a_page_nobody_answers_says_that_its_figures_are_old(prometheus: Fake, tmp_path: Path) -> None:
    prometheus.told = {}
    assert "Les mesures ne viennent plus" in browse(prometheus, tmp_path, "--dump-dom")


def test_the_page_asks_nobody_else() -> None:
    assert not re.search(r"https?://|//[a-z]", TEXT.split("<script>")[0].split("<style>")[0])
    assert "fetch(" in TEXT
    assert TEXT.count("fetch(") == 1
    assert "innerHTML" not in TEXT
    assert "{{" not in TEXT, "Prometheus would read it as a template"
