"""Alerts that planned work explains are silenced while it is done on a host, and not longer.

    with Silence(inventory, fleet, by="sias release", comment="20261201-…: release 1.5", say=progress.say) as silence:
        silence.cover(["app-a1"])    # work on this host begins
        silence.cover([])            # nothing is worked on any more

Only alerts of scope `service` are silenced (monitoring/alerts/*.yml), and only those of these hosts: what users feel, and
what could lose or has damaged something, is heard whatever is planned. A silence ends a few minutes ahead and is renewed: a
killed process's ends by itself. One Alertmanager is told, and its peers learn from it. Nothing here fails the work: that none
of them answers is said, in one line.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import httpx

from siasops.cluster.client import OPERATOR, TIMEOUT, tls
from siasops.errors import UserError
from siasops.inventory import Host, Inventory
from siasops.remote import Fleet

PASSWORD = f"/etc/prometheus/{OPERATOR}.password"
"""On monitoring hosts: a production's secrets are read by Ansible alone, but its controller may ask these hosts."""
LENGTH = 300.0
"""Seconds ahead at which a silence ends."""
RENEW = 60.0
"""Seconds between two renewals."""


def matchers(hosts: Sequence[str]) -> list[dict[str, Any]]:
    """Match alerts that work on these hosts explains, as Alertmanager writes it. Host names hold no sign of a regex."""
    return [
        {"name": "host", "value": "|".join(sorted(hosts)), "isRegex": True, "isEqual": True},
        {"name": "scope", "value": "service", "isRegex": False, "isEqual": True},
    ]


class Silence:
    """Silences of one piece of work; a context manager, which expires them at its end whatever happens.

    A silence that a former process of the same work left is taken over, by who made it and its comment.
    """

    def __init__(
        self, inventory: Inventory, fleet: Fleet, *, by: str, comment: str, say: Callable[[str], None]
    ) -> None:
        """Silence nothing yet.

        Args:
            inventory: the environment.
            fleet: connections, for the password.
            by: the command, such as `sias release`.
            comment: what is done, the same for all processes that work on it.
            say: told when alerts cannot be silenced.
        """
        self._inventory, self._fleet, self._say = inventory, fleet, say
        self._by, self._comment = by, comment
        self._hosts: list[str] = []
        self._kept = False
        self._told = False
        self._places: list[_Alertmanager] = []
        self._busy = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let alerts be heard again, unless the silence was asked to outlive this process."""
        self._stop()
        if not self._kept:
            self.cover([])
        for place in self._places:
            place.close()

    def cover(self, hosts: Sequence[str]) -> None:
        """Silence the alerts of these hosts from now on, and of no others."""
        hosts = sorted(hosts)
        if hosts == self._hosts:
            return
        self._hosts = hosts
        if self._thread is None:
            self._places = [
                _Alertmanager(self._inventory, self._fleet, h, self._by, self._comment)
                for h in self._inventory.watchers()
            ]
            self._thread = threading.Thread(target=self._renew, daemon=True)
            self._thread.start()
        self._put(LENGTH)

    def keep(self, seconds: float) -> None:
        """Let the silence that is in force outlive this process, for so long at most."""
        self._kept = True
        self._stop()
        self._put(seconds)

    def _stop(self) -> None:
        """Renew no more: a renewal that came later would undo what follows."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _renew(self) -> None:
        while not self._over.wait(RENEW):
            self._put(LENGTH)

    def _put(self, seconds: float) -> None:
        with self._busy:
            wrong = []
            for place in self._places:
                try:
                    place.put(self._hosts, seconds)
                except (httpx.HTTPError, UserError, ValueError, KeyError) as error:
                    wrong.append(f"on {place.host}: {error}")
                else:
                    self._told = False
                    return
            if not self._told:
                self._told = True
                self._say(f"silences are not as they should be, Alertmanager {'; '.join(wrong)}")


class _Alertmanager:
    """The silences of one piece of work in the Alertmanager of a monitoring host."""

    def __init__(self, inventory: Inventory, fleet: Fleet, host: Host, by: str, comment: str) -> None:
        self.host = host.name
        self._url = f"https://{host.address}:{inventory.ports['alertmanager']}/api/v2"
        self._inventory, self._fleet = inventory, fleet
        self._by, self._comment = by, comment
        self._http: httpx.Client | None = None

    def close(self) -> None:
        if self._http is not None:
            self._http.close()

    def put(self, hosts: Sequence[str], seconds: float) -> None:
        """Let there be one silence of this work, for these hosts, that ends so many seconds from now; none for no hosts.

        Raises:
            httpx.HTTPError: no answer, or a refusal.
            UserError: no password, no authority.
        """
        wanted = matchers(hosts) if hosts else None
        standing = None
        for silence in self._ours():
            if standing is None and _same(silence["matchers"], wanted):
                standing = silence
            else:
                self._ask("DELETE", f"/silence/{silence['id']}")
        if wanted is None:
            return
        now = datetime.now(UTC)
        body = {
            "matchers": wanted,
            "startsAt": standing["startsAt"] if standing else now.isoformat(),
            "endsAt": (now + timedelta(seconds=seconds)).isoformat(),
            "createdBy": self._by,
            "comment": self._comment,
        }
        self._ask("POST", "/silences", body | ({"id": standing["id"]} if standing else {}))

    def _ours(self) -> list[dict[str, Any]]:
        """Silences of this work that are in force."""
        found: list[dict[str, Any]] = self._ask("GET", "/silences").json()
        return [
            s
            for s in found
            if (s["createdBy"], s["comment"]) == (self._by, self._comment) and s["status"]["state"] != "expired"
        ]

    def _ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        if self._http is None:
            answer = self._fleet.run(self.host, ["cat", PASSWORD], check=True)
            self._http = httpx.Client(
                verify=tls(self._inventory, certificate=False),
                auth=(OPERATOR, answer.stdout.strip()),
                timeout=TIMEOUT,
                trust_env=False,
            )
        return self._http.request(method, f"{self._url}{path}", json=body).raise_for_status()


def _same(found: list[dict[str, Any]], wanted: list[dict[str, Any]] | None) -> bool:
    def plain(matchers: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
        return {(m["name"], m["value"], m["isRegex"], m.get("isEqual", True)) for m in matchers}

    return wanted is not None and plain(found) == plain(wanted)
