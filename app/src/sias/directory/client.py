"""Questions to the directory's servers: the own room's first, always over TLS, never for long.

ldap3 is pure Python, so that one wheel serves every Debian; python-ldap has no wheels and would be compiled on each host.
"""

import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

from django.conf import settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it calls tables of pyasn1 by the names of before
    import ldap3
    from ldap3.core.exceptions import LDAPException
    from ldap3.utils.conv import escape_filter_chars
    from ldap3.utils.dn import parse_dn

Answer = TypeVar("Answer")
CONNECT = 2  # s
PATIENCE = 5  # s for an answer while somebody waits to sign in
PATIENCE_OF_A_PASS = 10  # s for a page of entries
LONGEST_PASS = 40  # s for all of them: the worker reads inside a transaction, which PostgreSQL ends after 60
FORGIVE = 30  # s during which a server that failed is asked last
PAGE = 500
PAGED = "1.2.840.113556.1.4.319"  # the control of paged results
SUCCESS = 0
REFUSED = {19, 48, 49, 50, 53}  # constraint, inappropriate, invalid credentials, no access, unwilling: about the agent
AGENTS = "(objectClass=inetOrgPerson)"
GROUPS = "(objectClass=groupOfNames)"
ATTRIBUTES = (
    "entryUUID",
    "uid",
    "sn",
    "givenName",
    "mail",
    "departmentNumber",
    "title",
    "employeeType",
    "pwdAccountLockedTime",
    "pwdEndTime",
)


class DirectoryAwayError(Exception):
    """No server could be asked. The message names each and its reason, in French."""


class IncompleteError(Exception):
    """A server answered with less than everything: nothing may be concluded from who is missing."""


@dataclass(frozen=True)
class Entry:
    """An agent's entry. `values` are texts by attribute, each the first of its values."""

    dn: str
    values: dict[str, str]

    def __getitem__(self, attribute: str) -> str:
        """Return a text, "" when the entry has none."""
        return self.values.get(attribute, "")


@dataclass
class Reading:
    """Everything that the directory says."""

    server: str
    entries: list[Entry] = field(default_factory=list)
    groups: dict[str, set[str]] = field(default_factory=dict)  # name -> canonical names of its members


_failed_at: dict[str, float] = {}  # by server, one memory per process


def canonical(dn: str) -> str:
    """Return a name as one may compare it: servers and people differ in case and blanks."""
    with suppress(LDAPException):
        return ",".join(f"{kind.strip()}={value.strip()}".lower() for kind, value, _sign in parse_dn(dn))
    return dn.lower()


def read() -> Reading:
    """Return every agent and group. Raises DirectoryAwayError, IncompleteError."""
    return _ask(_everything, PATIENCE_OF_A_PASS)


def find(identity: str) -> Entry | None:
    """Return the entry with this `entryUUID`, None when there is none. Raises DirectoryAwayError."""
    return _ask(lambda connection, _server: _one(connection, identity), PATIENCE)


def sign_in(identity: str, password: str) -> tuple[Entry | None, bool]:
    """Return the entry with this `entryUUID` and whether the password is its own. Raises DirectoryAwayError.

    An empty password is never right: LDAP takes it for no question at all and answers yes.
    """

    def question(connection: ldap3.Connection, _server: str) -> tuple[Entry | None, bool]:
        entry = _one(connection, identity)
        if entry is None or not password:
            return entry, False
        connection.rebind(user=entry.dn, password=password, authentication=ldap3.SIMPLE)
        code = connection.result["result"]
        if code not in {SUCCESS, *REFUSED}:
            raise LDAPException(connection.result["description"])
        return entry, code == SUCCESS

    return _ask(question, PATIENCE)


def _ask(question: Callable[[ldap3.Connection, str], Answer], patience: int) -> Answer:
    """Put a question to the first server that answers it."""
    problems = []
    now = time.monotonic()
    servers = sorted(settings.SIAS_LDAP_SERVERS, key=lambda uri: now - _failed_at.get(uri, -FORGIVE) < FORGIVE)
    for uri in servers:
        try:
            with _connected(uri, patience) as connection:
                answer = question(connection, uri)
        except (LDAPException, OSError) as error:
            _failed_at[uri] = time.monotonic()
            problems.append(f"{urlsplit(uri).hostname} : {' '.join(str(error).split())[:150]}")
        else:
            _failed_at.pop(uri, None)
            return answer
    raise DirectoryAwayError(" ; ".join(problems) or "aucun serveur n'est indiqué")


class Tls(ldap3.Tls):
    """TLS as the standard library does it, host name included: ldap3's own way is older than Python 3.7."""

    def wrap_socket(self, connection: ldap3.Connection, do_handshake: bool = False) -> None:  # noqa: ARG002 - ldap3's interface
        """Put TLS around the connection's socket. Raises ssl.SSLError."""
        context = ssl.create_default_context(cafile=self.ca_certs_file)
        connection.socket.settimeout(CONNECT)  # through a socket of this host, it is here that an absent server shows
        connection.socket = context.wrap_socket(connection.socket, server_hostname=connection.server.host)
        connection.socket.settimeout(connection.receive_timeout)


class Server(ldap3.Server):
    """A server, reached over the network, or through a socket of this host where the application has no network."""

    def candidate_addresses(self) -> list:
        """Return where to connect, as ldap3 asks for it."""
        if not settings.SIAS_LDAP_SOCKETS:
            return super().candidate_addresses()
        path = f"{settings.SIAS_LDAP_SOCKETS}/{self.host}"
        return [[socket.AF_UNIX, socket.SOCK_STREAM, 0, None, path, None, None]]


@contextmanager
def _connected(uri: str, patience: int) -> Iterator[ldap3.Connection]:
    """Give a connection bound as the reading account. Raises LDAPException, OSError."""
    parts = urlsplit(uri)
    server = Server(
        parts.hostname,
        port=parts.port or (636 if parts.scheme == "ldaps" else 389),
        use_ssl=parts.scheme == "ldaps",
        tls=Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(settings.SIAS_LDAP_CA)),
        get_info=ldap3.NONE,
        connect_timeout=CONNECT,
    )
    connection = ldap3.Connection(
        server,
        user=settings.SIAS_LDAP_USER,
        password=settings.SIAS_LDAP_PASSWORD,
        receive_timeout=patience,
        auto_referrals=False,
        read_only=True,
        check_names=False,
    )
    try:
        connection.open(read_server_info=False)
        if parts.scheme != "ldaps":
            connection.start_tls(read_server_info=False)
        if not connection.bind(read_server_info=False):
            raise LDAPException(f"le compte de lecture est refusé ({connection.result['description']})")
        yield connection
    finally:
        with suppress(LDAPException, OSError):
            connection.unbind()
        if connection.socket is not None:  # left open by what failed on the way
            connection.socket.close()


def _pages(connection: ldap3.Connection, kept: str, attributes: tuple[str, ...]) -> Iterator[dict]:
    """Yield what a filter keeps, page by page. Raises IncompleteError."""
    cookie, end = None, time.monotonic() + LONGEST_PASS
    while True:
        connection.search(
            settings.SIAS_LDAP_BASE,
            kept,
            attributes=list(attributes),
            paged_size=PAGE,
            paged_criticality=True,
            paged_cookie=cookie,
        )
        result = connection.result
        if result["result"] != SUCCESS:
            raise IncompleteError(f"le serveur n'a pas tout dit ({result['description']})")
        yield from (row for row in connection.response if row["type"] == "searchResEntry")
        paged = result.get("controls", {}).get(PAGED)
        if paged is None:
            raise IncompleteError("le serveur ne dit pas s'il a tout dit")
        cookie = paged["value"]["cookie"]
        if not cookie:
            return
        if time.monotonic() > end:
            raise IncompleteError(f"la lecture dépasse {LONGEST_PASS} s")


def _everything(connection: ldap3.Connection, server: str) -> Reading:
    reading = Reading(server)
    reading.entries = [_entry(row) for row in _pages(connection, AGENTS, ATTRIBUTES)]
    for row in _pages(connection, GROUPS, ("cn", "member")):
        values = row["raw_attributes"]
        name = _text(values.get("cn", [b""])[:1])
        reading.groups[name] = {canonical(_text([member])) for member in values.get("member", ())}
    if not reading.entries:
        raise IncompleteError("le serveur ne montre aucun agent")
    return reading


def _one(connection: ldap3.Connection, identity: str) -> Entry | None:
    connection.search(
        settings.SIAS_LDAP_BASE, f"(&{AGENTS}(entryUUID={escape_filter_chars(identity)}))", attributes=list(ATTRIBUTES)
    )
    if connection.result["result"] != SUCCESS:
        raise LDAPException(connection.result["description"])
    rows = [row for row in connection.response if row["type"] == "searchResEntry"]
    return _entry(rows[0]) if rows else None


def _entry(row: dict) -> Entry:
    values = {name: _text(found) for name, found in row["raw_attributes"].items()}
    return Entry(row["dn"], values)


def _text(values: list[bytes]) -> str:
    return " ".join(values[0].decode("utf-8", errors="replace").split()) if values else ""
