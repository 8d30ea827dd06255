"""What people do: one function per kind of request of the mix (`sias_load.mix` in the inventory).

    python -m loadtests.journeys      lists them as JSON, for `sias load`

A journey asks through its agent, who signs in once and keeps a session, as a browser does. A step that follows another
comes after a pause for thought, and counts from its own intended start. A kind without a journey is not offered, and the
report says so.
"""

from __future__ import annotations

import json
import random
import re
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from typing import Any, Protocol
from urllib.parse import quote_plus

import gevent
from locust.contrib.fasthttp import FastHttpSession
from locust.event import EventHook

from siasops.load.schedule import Arrival

ROW = re.compile(
    r'<a href="/personnes/(\d+)/">([^<]+)</a>.*?<time datetime="(\d{4}-\d\d-\d\d)">.*?<td>([^<]*)</td>\s*'
    r'<td class="number">([^<]*)</td>',
    re.DOTALL,
)
HOUSEHOLD = re.compile(r'href="/foyers/(\d+)/">Ménage (F\d+)<')
ACCESS_REQUEST = re.compile(r'href="/rgpd/(\d+)/"[^>]*>Accès')
FIELD = re.compile(r'<input[^>]*\bname="(\w+)"[^>]*?>')
VALUE = re.compile(r'\bvalue="([^"]*)"')
CHOSEN = re.compile(r'<select[^>]*\bname="(\w+)"[^>]*>(.*?)</select>', re.DOTALL)
NAMES = ("Schmitt", "Muller", "Weber", "Klein", "Martin", "Meyer", "Wagner", "Schneider", "Becker", "Rossi", "Kieffer",
         "Hoffmann", "Bernard", "Thiel", "Kowalski", "Da Silva", "Yilmaz", "Robert", "Petit", "Simon")  # fmt: skip
SECRETARY, OPERATOR, LISTENER, CAREWORKER, DELEGATE = "demo-st", "demo-os", "demo-ec", "demo-ts", "demo-dp"
"""Accounts of the lab, one per profile of the table of rights; all have the password of `demo`."""
HOT = 12
"""Files that many people open on the same day."""
HOT_SHARE = 0.3
THOUGHT = 0.5
"""Seconds between a form and its answer: enough for the order of things, too short to need thousands of agents."""
LIMIT, CONNECT_LIMIT = 10.0, 3.0
"""Seconds after which somebody has given up."""


class RefusedError(Exception):
    """A step was not answered as it should; already logged."""


class Notes(Protocol):
    """Where requests are logged."""

    def note(self, row: tuple[object, ...]) -> None:
        """Log one."""


@dataclass(frozen=True)
class Person:
    """Somebody whom the directory showed."""

    identity: int
    name: str
    birth: str
    commune: str
    number: str


class Agents:
    """The signed-in sessions of a worker, and whom they know."""

    def __init__(self, plan: dict[str, Any], log: Notes, told: EventHook) -> None:
        self.plan, self.log, self.told = plan, log, told
        self.zero = time.time()
        self.people: list[Person] = []
        self.households: list[tuple[str, str]] = []  # identity in addresses, and the number that people use
        self.requests: list[str] = []  # of citizens who want a copy of their data
        self.accounts: dict[FastHttpSession, str] = {}
        self.sessions = {
            (room, account): self._session(url, account)
            for room, url in plan["rooms"].items()
            for account in (SECRETARY, OPERATOR, LISTENER, CAREWORKER, DELEGATE)
        }
        self.signing: set[int] = set()
        self.partners = {room: self._session(url, "") for room, url in plan["rooms"].items()}

    def _session(self, url: str, account: str) -> FastHttpSession:
        ca = self.plan["ca"]
        session = FastHttpSession(
            base_url=url, request_event=EventHook(), user=None, network_timeout=LIMIT, connection_timeout=CONNECT_LIMIT,
            max_redirects=0, max_retries=0, concurrency=100, insecure=False,
            headers={"Referer": f"{url}/", "Accept-Language": "fr"},
            ssl_context_factory=(lambda: ssl.create_default_context(cafile=ca)) if ca else None,
        )  # fmt: skip
        # A redirect is the answer, not a way.
        session.client.redirect_response_codes = frozenset()
        if account:
            self.accounts[session] = account
        return session

    def prepare(self) -> None:
        """Sign in everywhere, and get to know some people and households.

        Raises:
            RuntimeError: the application refuses the account, or the directory is empty.
        """
        # One after the other: hashing a password is meant to be slow, and is not what is measured.
        for session in self.accounts:
            self.sign_in(session)
        session = next(s for s, account in self.accounts.items() if account == OPERATOR)
        found: dict[int, Person] = {}
        for name in NAMES:
            page = session.get(f"/repertoire/?q={name.replace(' ', '+')}").text or ""
            for identity, label, birth, commune, number in ROW.findall(page):
                found[int(identity)] = Person(
                    int(identity), unescape(label).strip(), birth, unescape(commune).strip(), number.strip()
                )
        self.people = sorted(found.values(), key=lambda p: p.identity)
        if not self.people:
            raise RuntimeError("the directory shows nobody: load a population first (sias data load)")
        for person in self.people[:: max(1, len(self.people) // 40)]:
            self.households += HOUSEHOLD.findall(session.get(f"/personnes/{person.identity}/").text or "")[:1]
        delegate = next(s for s, account in self.accounts.items() if account == DELEGATE)
        self.requests = ACCESS_REQUEST.findall(delegate.get("/rgpd/").text or "")

    def sign_in(self, session: FastHttpSession) -> None:
        """Sign in.

        Raises:
            RuntimeError: it was refused; says with which status.
        """
        session.get("/connexion/")
        fields = {"username": self.accounts[session], "password": self.plan["password"]}
        answer = session.post("/connexion/", data={**fields, "csrfmiddlewaretoken": token(session)})
        if answer.status_code not in {302, 303}:
            raise RuntimeError(
                f"sign-in of {self.accounts[session]} at {session.base_url}: {answer.status_code} {answer.error or ''}"
            )

    def again(self, session: FastHttpSession) -> None:
        """Sign in again, once at a time, after a session was lost."""
        if id(session) in self.signing:
            return
        self.signing.add(id(session))
        try:
            self.sign_in(session)
        except RuntimeError as error:
            sys.stderr.write(f"{error}\n")
        finally:
            self.signing.discard(id(session))

    def of(self, arrival: Arrival) -> Agent:
        """Return who comes: the same agent for the same draw."""
        rng = random.Random(arrival.draw)  # noqa: S311 - choices of people, not a secret
        account = PROFILES.get(arrival.kind)
        return Agent(
            self,
            arrival,
            rng,
            self.sessions[arrival.room, account] if account else self.partners[arrival.room],
        )

    def refuse(self, arrival: Arrival, why: str) -> None:
        """Log somebody who could not even ask."""
        self.of(arrival).note(arrival.kind, arrival.at, time.time() - self.zero, why=why)


class Agent:
    """Somebody at a desk of a site, during one journey."""

    def __init__(self, agents: Agents, arrival: Arrival, rng: random.Random, session: FastHttpSession) -> None:
        self.agents, self.arrival, self.rng, self.session = agents, arrival, rng, session
        self.intended = arrival.at
        self.first = True
        self.asking: tuple[str, float] | None = None

    def person(self) -> Person:
        """Somebody: often one of the few whom everybody asks about today."""
        people = self.agents.people
        return self.rng.choice(people[:HOT] if self.rng.random() < HOT_SHARE else people)

    def think(self) -> None:
        """Pause; the next step counts from the end of the pause."""
        gevent.sleep(THOUGHT)
        self.intended = time.time() - self.agents.zero

    def get(self, kind: str, path: str, headers: dict[str, str] | None = None, want: tuple[int, ...] = (200,)) -> str:
        """Ask for a page; returns its text.

        Raises:
            RefusedError: it did not come.
        """
        return self._ask(kind, want, "GET", path, headers=headers)

    def post(self, kind: str, path: str, fields: dict[str, str], want: tuple[int, ...] = (302, 303)) -> str:
        """Send a form.

        Raises:
            RefusedError: it was not taken.
        """
        return self._ask(kind, want, "POST", path, data={**fields, "csrfmiddlewaretoken": token(self.session)})

    def _ask(self, kind: str, want: tuple[int, ...], method: str, path: str, **options: Any) -> str:
        started = time.time() - self.agents.zero
        self.asking = (kind, started)
        answer = self.session.request(method, path, **options)
        self.asking = None
        away = answer.status_code in {302, 303} and "/connexion/" in (answer.headers or {}).get("Location", "")
        why = ""
        if away:
            why = "signed out"
            gevent.spawn(self.agents.again, self.session)
        elif answer.status_code not in want:
            why = (
                f"{answer.status_code}"
                if answer.status_code
                else " ".join(f"{type(answer.error).__name__} {answer.error}".split())[:120]
            )
        served = (answer.headers or {}).get("X-SIAS-Host", "")
        self.note(kind, self.intended, started, status=answer.status_code, why=why, served=served)
        if why:
            raise RefusedError(why)
        return answer.text or ""

    def note(
        self, kind: str, intended: float, started: float, *, status: int = 0, why: str = "", served: str = ""
    ) -> None:
        """Log a request, for the verdict and for Locust's own page."""
        ended = time.time() - self.agents.zero
        a = self.arrival
        self.agents.log.note(
            (
                a.number,
                int(self.first),
                kind,
                a.phase,
                a.room,
                f"{intended:.4f}",
                f"{started:.4f}",
                f"{ended:.4f}",
                status,
                why,
                served,
            )
        )
        self.first = False
        self.agents.told.fire(
            request_type="open", name=kind, response_time=(ended - intended) * 1000, response_length=0,
            exception=RefusedError(why) if why else None, context={}, response=None,
        )  # fmt: skip

    def note_open(self, why: str) -> None:
        """Log the request that was under way when the run ended."""
        kind, started = self.asking or (self.arrival.kind, time.time() - self.agents.zero)
        self.note(kind, self.intended, started, why=why)


def token(session: FastHttpSession) -> str:
    """The session's CSRF token."""
    return next((c.value or "" for c in session.cookiejar if "csrf" in c.name), "")


def slip(word: str, rng: random.Random) -> str:
    """A word as somebody in a hurry types it: one letter gone, doubled, or two exchanged."""
    if len(word) < 4:  # noqa: PLR2004 - a slip in a short word makes another word
        return word
    at = rng.randrange(1, len(word) - 1)
    return rng.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :],
        )
    )


def form_fields(page: str, holds: str = "birth_name") -> dict[str, str]:
    """What a browser would send back of the form that holds a field: that of a person unless said."""
    at = page.find(f'name="{holds}"')
    page = page[page.rfind("<form", 0, at) : page.find("</form>", at)]
    fields = {}
    for tag in re.finditer(FIELD, page):
        value = VALUE.search(tag.group(0))
        fields[tag.group(1)] = unescape(value.group(1)) if value else ""
    for name, options in CHOSEN.findall(page):
        chosen = re.search(r'<option value="([^"]*)" selected', options)
        fields[name] = chosen.group(1) if chosen else ""
    return fields


# Who does what -------------------------------------------------------------------------------------------------------


def search(agent: Agent) -> None:
    """A territorial secretary at the counter: a name as heard, half the time with the year or the commune."""
    person = agent.person()
    words = person.name.split()
    words[0] = slip(words[0], agent.rng) if agent.rng.random() < 0.5 else words[0]  # noqa: PLR2004 - every second one
    more = agent.rng.choice(("", "", f"&naissance={person.birth[:4]}", f"&commune={quote_plus(person.commune)}"))
    agent.get("search", f"/repertoire/?q={quote_plus(' '.join(words[:2]))}{more}")


def exact_search(agent: Agent) -> None:
    """An operator of the SIAO with the identity card in hand: whole name and date of birth."""
    person = agent.person()
    birth = "/".join(reversed(person.birth.split("-")))
    agent.get("exact_search", f"/repertoire/?q={quote_plus(person.name)}&naissance={quote_plus(birth)}")


def file(agent: Agent) -> None:
    """An operator of the SIAO opens a file, a household's one time in four."""
    if agent.agents.households and agent.rng.random() < 0.25:  # noqa: PLR2004 - one in four
        agent.get("file", f"/foyers/{agent.rng.choice(agent.agents.households)[0]}/")
    else:
        agent.get("file", f"/personnes/{agent.person().identity}/")


def tasks(agent: Agent) -> None:
    """A social worker looks into the task box of the day."""
    agent.get("tasks", "/taches/")


def history(agent: Agent) -> None:
    """An operator of the SIAO reads what happened: the timeline of a person, or who changed what in the file."""
    person = agent.person().identity
    agent.get("history", f"/personnes/{person}/{agent.rng.choice(('chronologie', 'historique'))}/")


def partner_api(agent: Agent) -> None:
    """Another application asks who a person is, with its key. Somebody protected is nobody to it."""
    key = {"Authorization": f"Bearer {agent.agents.plan['api_key']}"}
    agent.get("partner_api", f"/api/v1/persons/{agent.person().number}", headers=key, want=(200, 404))


def save(agent: Agent) -> None:
    """A listener of the 115 corrects a telephone number: the form, a thought, the saving. Two at once: the second is told so."""
    people = agent.agents.people
    identity = people[agent.arrival.number % len(people)].identity
    fields = form_fields(agent.get("form", f"/personnes/{identity}/modifier/"))
    fields["phone"] = (
        f"03 87 {agent.rng.randrange(100):02d} {agent.rng.randrange(100):02d} {agent.rng.randrange(100):02d}"
    )
    agent.think()
    agent.post("save", f"/personnes/{identity}/modifier/", fields, want=(302, 303, 409))


def create(agent: Agent) -> None:
    """A listener of the 115 takes in somebody unknown. Fictitious and recognisable: EXERCICE."""
    number, run = agent.arrival.number, agent.agents.plan["run"]
    agent.post(
        "create",
        "/personnes/nouvelle/",
        {
            "birth_name": "EXERCICE", "first_names": f"Charge {number}", "sex": "F" if number % 2 else "M",
            "birth_date": f"{1940 + number % 65}-{1 + number % 12:02d}-{1 + number % 28:02d}",
            "idempotency_key": f"{run}-{number}",
        },
    )  # fmt: skip


def move(agent: Agent) -> None:
    """An operator of the SIAO moves somebody to another household: the file, the form, a thought, the move."""
    people = agent.agents.people
    identity = people[agent.arrival.number % len(people)].identity
    lives = HOUSEHOLD.search(agent.get("form", f"/personnes/{identity}/"))
    others = [number for home, number in agent.agents.households if lives and home != lives[1]]
    if not lives or not others:
        raise RefusedError("nowhere to move from or to")  # its page was answered, and logged
    path = f"/foyers/{lives[1]}/deplacer/"
    fields = form_fields(agent.get("form", path), "target")
    fields |= {"persons": str(identity), "target": agent.rng.choice(others), "reason": "hebergement"}
    agent.think()
    agent.post("move", path, fields, want=(302, 303, 409))


def heavy(agent: Agent) -> None:
    """The delegate for data protection: all data of a citizen who asked for a copy, or a household's sheet as PDF."""
    if agent.agents.requests and agent.rng.random() < 0.5:  # noqa: PLR2004 - every second one
        agent.get("heavy", f"/rgpd/{agent.rng.choice(agent.agents.requests)}/donnees/")
    else:
        agent.get("heavy", f"/foyers/{agent.rng.choice(agent.agents.households)[0]}/fiche.pdf")


JOURNEYS: dict[str, Callable[[Agent], None]] = {
    "search": search,
    "exact_search": exact_search,
    "file": file,
    "tasks": tasks,
    "history": history,
    "partner_api": partner_api,
    "save": save,
    "create": create,
    "move": move,
    "heavy": heavy,
}

PROFILES = {
    "search": SECRETARY,
    "exact_search": OPERATOR,
    "file": OPERATOR,
    "tasks": CAREWORKER,
    "history": OPERATOR,
    "save": LISTENER,
    "create": LISTENER,
    "move": OPERATOR,
    "heavy": DELEGATE,
}
"""Whose account asks: a profile that may see the whole department, where the journey reads anybody's file."""

if __name__ == "__main__":
    json.dump({kind: " ".join((journey.__doc__ or "").split()) for kind, journey in JOURNEYS.items()}, sys.stdout)
