"""Where clients come through: the PgBouncer and the HAProxy of every application host, told at once.

HAProxy checks the servers of both clusters all the time, those of the one that does not serve with weight 0. A cutover swaps
the weights while PgBouncer holds everybody: by the runtime interface, in milliseconds, and nothing is reloaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from siasops.cluster.instance import Instance
from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.migrate import decision, door
from siasops.migrate.cutover import Side
from siasops.remote import Fleet, RemoteError, Talk

BACKENDS = ("pg_primary", "pg_replicas")
MARK = f"{door.MARK}\n"
SPARE = 1.0
"""Seconds past the moment at which the old cluster opens by itself, until hosts let their clients through by themselves."""
ANSWER = 10.0


class Everywhere:
    """Doors of every application host; see `cutover.Doors`."""

    def __init__(self, talks: dict[str, Talk], limit: float) -> None:
        """Start with open conversations. `limit`: seconds that a cutover may hold clients."""
        self._talks = talks
        self._limit = limit

    def ready(self) -> None:
        """See that every HAProxy could lead to the new cluster.

        Raises:
            UserError: one could not.
        """
        self._all("usable to", "Nothing was touched; see that the new cluster has a primary, and HAProxy's log there.")

    def hold(self) -> None:
        """See `cutover.Doors`."""
        try:
            self._all(f"hold {self._limit + decision.GRACE + SPARE:g}", "Look for long transactions there.")
        except UserError:
            self.release()
            raise

    def point(self, to: Side) -> None:
        """See `cutover.Doors`. A host that cannot be told is told of when the others have been."""
        self._all(f"point {to}", "A reload of HAProxy there leads where its configuration does.")

    def release(self) -> None:
        """See `cutover.Doors`. A host that cannot be told lets its clients through by itself."""
        self._ask("release")

    def _all(self, word: str, advice: str) -> None:
        wrong = {host: said for host, said in self._ask(word).items() if said != "ok"}
        if wrong:
            told = "; ".join(f"{host}: {said}" for host, said in wrong.items())
            raise UserError(f"“{word}” was not done everywhere ({told}). {advice}")

    def _ask(self, word: str) -> dict[str, str]:
        def one(host: str) -> str:
            try:
                return self._talks[host].ask(f"{word}\n", MARK, timeout=self._limit + ANSWER).strip()
            except RemoteError as error:
                return str(error)

        with ThreadPoolExecutor(max_workers=max(1, len(self._talks))) as pool:
            return dict(zip(self._talks, pool.map(one, self._talks), strict=True))


@contextmanager
def everywhere(
    inventory: Inventory,
    fleet: Fleet,
    old: Instance,
    new: Instance,
    *,
    limit: float,
    silent: Callable[[str], None] | None = None,
) -> Iterator[Everywhere]:
    """Open a conversation with every application host, for a cutover from one cluster to the other.

    Args:
        inventory: the environment.
        fleet: connections.
        old: who served when the cutover began.
        new: the other cluster.
        limit: seconds that clients may be held.
        silent: told of a host that does not answer, and the others are opened: to end a cutover, when that host may be lost.

    Raises:
        RemoteError: a host does not answer, and nobody is told.
    """
    program = Path(door.__file__).read_text(encoding="utf-8")
    databases = [host.name for host in inventory.group("databases")]
    given = {"port": inventory.ports["pgbouncer"], "from": _servers(old, databases), "to": _servers(new, databases),
             "backends": BACKENDS}  # fmt: skip
    with ExitStack() as stack:
        command = ["python3", "-c", program, json.dumps(given)]
        talks: dict[str, Talk] = {}
        for host in inventory.group("applications"):
            try:
                talks[host.name] = stack.enter_context(fleet.talk(host.name, command))
            except RemoteError as error:
                if silent is None:
                    raise
                silent(str(error))
        yield Everywhere(talks, limit)


def _servers(one: Instance, hosts: Iterable[str]) -> list[str]:
    return [one.server(host) for host in hosts]
