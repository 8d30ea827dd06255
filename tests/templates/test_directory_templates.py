"""The directory: what each server's configuration says, and two real slapd on this machine that run on it."""

from __future__ import annotations

import getpass
import gzip
import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

from siasops import inventory as facts
from siasops.inventory import ROOT
from siasops.pki import Authority, ensure
from tests.templates.test_edge_templates import secrets

TEMPLATES = [
    *(["directory", "config.ldif.j2"], ["directory", "tree.ldif.j2"], ["directory", "sias-directory.service.j2"]),
    *(["directory", "way.socket.j2"], ["directory", "way.service.j2"]),
]
BASE = "dc=sias,dc=internal"
READER = f"cn=reader,ou=accounts,{BASE}"
AGENT = f"uid=cessai,ou=agents,{BASE}"
PASSWORD = "un mot de passe assez long"
WAIT_S = 20

pytestmark = pytest.mark.skipif(not Path("/usr/sbin/slapd").exists(), reason="apt-get install slapd")


@pytest.fixture(scope="module", params=["lab", "lab-full"])
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp(request.param), request.param)


def render(to: Path, environment: str) -> Path:
    arguments = {
        "render": TEMPLATES, "render_to": str(to), "render_hosts": "directories", "sias_secrets": secrets(), "server": "app-b1",
    }  # fmt: skip
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "ansible-playbook"), "-i", f"inventory/{environment}.yml"),
            *("tests/templates/render.yml", "-e", json.dumps(arguments)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return to


def test_each_server_has_a_number_of_its_own_and_copies_the_other(rendered: Path) -> None:
    numbers, providers = {}, {}
    for folder in rendered.iterdir():
        if folder.is_dir():
            text = (folder / "config.ldif").read_text(encoding="utf-8")
            numbers[folder.name] = re.findall(r"^olcServerID: (\d+)$", text, re.MULTILINE)
            providers[folder.name] = re.findall(r"provider=ldaps://([\w-]+)\.sias\.internal:636", text)
    assert sorted(number for (number,) in numbers.values()) == ["1", "2"]
    assert providers == {"app-a1": ["app-b1"], "app-b1": ["app-a1"]}


def test_it_listens_over_tls_on_its_own_address_only(rendered: Path) -> None:
    for folder in filter(Path.is_dir, rendered.iterdir()):
        unit = (folder / "sias-directory.service").read_text(encoding="utf-8")
        assert re.search(r'-h "ldaps://192\.168\.\d+\.\d+:636 ldapi://%%2Frun', unit)
        assert "ldap://" not in unit


def test_the_way_of_the_application_leads_from_a_socket_of_its_own_to_the_server(rendered: Path) -> None:
    folder = next(filter(Path.is_dir, rendered.iterdir()))
    way = (folder / "way.socket").read_text(encoding="utf-8")
    assert "ListenStream=/run/sias-directory/app-b1.sias.internal\n" in way
    assert "SocketGroup=sias\n" in way
    assert re.search(r"socket-proxyd .* 192\.168\.\d+\.\d+:636\n", (folder / "way.service").read_text(encoding="utf-8"))


# --- two real servers ------------------------------------------------------------------------------------------------
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Server:
    """One slapd on this machine, made by the role's own tool from the role's own files."""

    name: str
    home: Path
    port: int
    tool: ModuleType
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def uri(self) -> str:
        return f"ldaps://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["/usr/sbin/slapd", "-d", "0", "-F", str(self.home / "slapd.d"), "-h", f"{self.uri} {self.tool.URI}"],
            stderr=subprocess.DEVNULL,
        )
        self.tool.until_it_answers()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=WAIT_S)
            self.process = None

    def ask(self, *command: str, text: str | None = None, who: str = "", password: str = "") -> tuple[int, str]:
        """Ask over the network, as an account or as a stranger."""
        secret = self.home / "asked.password"
        secret.touch(mode=0o600)
        secret.write_text(password, encoding="utf-8")
        account = ("-D", who, "-y", str(secret)) if who else ()
        done = subprocess.run(
            [command[0], "-H", self.uri, "-x", *account, *command[1:]],
            input=text, capture_output=True, text=True, check=False, timeout=WAIT_S,
            env={"LDAPTLS_CACERT": str(self.home / "pki/ca.crt"), "LDAPTLS_REQCERT": "demand", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def reads(self, name: str) -> bool:
        code, told = self.ask(
            *("ldapsearch", "-LLL", "-s", "base", "-b", name, "dn"), who=READER, password="value of directory_reader"
        )
        return code == 0 and "dn: " in told


def until(question: object, what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not question():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.1)  # between questions inside a deadline


def tool_for(home: Path, name: str) -> ModuleType:
    source = ROOT / "roles/directory/files/sias_directory.py"
    spec = importlib.util.spec_from_file_location(f"sias_directory_{name.replace('-', '_')}", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.HOME, module.DATA, module.DUMPS = home, home / "data", home / "dumps"  # type: ignore[attr-defined]
    module.URI = f"ldapi://{str(home / 'ldapi').replace('/', '%2F')}"  # type: ignore[attr-defined]
    module.OWNER = getpass.getuser()  # type: ignore[attr-defined]
    module.active = lambda: False  # type: ignore[attr-defined]
    return module


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Both rooms' servers, configured, started and filled as the role does it."""
    to = render(tmp_path_factory.mktemp("servers"), "lab")
    inventory = facts.load(facts.resolve("lab"))
    authority = Authority(tmp_path_factory.mktemp("authority"), "passphrase")
    authority.create("lab")
    ensure(inventory, authority, renew_before_days=30, dry_run=False)
    ports = {host.name: free_port() for host in inventory.group("directories")}
    made = []
    for name, port in ports.items():
        home = Path(f"/tmp/sias-slapd-{port}")  # short: the path of a socket holds 107 bytes
        home.mkdir()
        shutil.copytree(authority.folder / "hosts" / name, home / "pki")
        text = (to / name / "config.ldif").read_text(encoding="utf-8")
        for former, new in {
            "/etc/sias/pki": str(home / "pki"),
            "/var/lib/sias-directory": str(home / "data"),
            "/run/sias-directory-server": str(home),
            **{f"{other}.sias.internal:636": f"127.0.0.1:{number}" for other, number in ports.items()},
        }.items():
            text = text.replace(former, new)
        (home / "config.ldif").write_text(text, encoding="utf-8")
        (home / "tree.ldif").write_text((to / name / "tree.ldif").read_text(encoding="utf-8"), encoding="utf-8")
        for account in ("reader", "replicator"):
            (home / f"{account}.password").write_text(f"value of directory_{account}", encoding="utf-8")
        made.append(Server(name, home, port, tool_for(home, name)))
    try:
        for server in made:
            assert server.tool.configure() == "configured"
            assert server.tool.configure() == "unchanged"
            server.start()
        first, second = made
        assert first.tool.fill() == "filled"
        assert first.tool.fill() == "unchanged"
        until(lambda: second.reads(BASE), "the other room's server never heard of the tree")
        yield made
    finally:
        for server in made:
            server.stop()
            shutil.rmtree(server.home)


@pytest.fixture(scope="module")
def agent(servers: list[Server]) -> str:
    """An agent, whose password root gave in clear: the server keeps a hash of it."""
    first, second = servers
    assert first.tool.empty(BASE)
    text = f"dn: {AGENT}\nobjectClass: inetOrgPerson\nuid: cessai\nsn: Essai\ncn: Camille Essai\nuserPassword: {PASSWORD}\n"
    assert first.tool.load(text) == "loaded 1 entries"
    until(lambda: second.reads(AGENT), "the other room's server never heard of the agent")
    assert not second.tool.empty(BASE)
    return AGENT


def test_what_is_written_in_either_room_is_read_in_the_other(servers: list[Server], agent: str) -> None:
    first, second = servers
    change = f"dn: {agent}\nchangetype: modify\nreplace: title\ntitle: cheffe\n"
    second.tool.as_root("ldapmodify", text=change)
    told = lambda: first.tool.as_root("ldapsearch", "-LLL", "-b", agent, "title").stdout  # noqa: E731
    until(lambda: "title: cheffe" in told(), "the first server never heard of the change")


def test_a_server_that_was_away_catches_up(servers: list[Server], agent: str) -> None:
    first, second = servers
    first.stop()
    name = f"ou=pendant,ou=groups,{BASE}"
    second.tool.as_root("ldapadd", text=f"dn: {name}\nobjectClass: organizationalUnit\nou: pendant\n")
    first.start()
    until(lambda: first.reads(name), "the server that was away never caught up")


def test_agents_sign_in_in_both_rooms_and_their_passwords_are_argon2(servers: list[Server], agent: str) -> None:
    for server in servers:
        assert server.ask("ldapwhoami", who=agent, password=PASSWORD)[0] == 0
        assert server.ask("ldapwhoami", who=agent, password="faux")[0] == server.tool.INVALID_CREDENTIALS
        stored = server.tool.as_root("ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-b", agent, "userPassword").stdout
        assert "e0FSR09OMn0" in stored  # {ARGON2}


def test_strangers_see_nothing_and_nothing_goes_in_clear(servers: list[Server], agent: str) -> None:
    for server in servers:
        code, told = server.ask("ldapsearch", "-LLL", "-b", BASE)
        assert code != 0
        assert "dn:" not in told
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as link:
            link.sendall(bytes.fromhex("300c020101600702010304008000"))  # a bind without TLS
            link.settimeout(5)
            try:
                answer = link.recv(100)
            except ConnectionResetError:
                answer = b""
            assert not answer.startswith(b"0")  # no LDAP comes back


def test_the_reader_reads_agents_and_no_secret_and_writes_nothing(servers: list[Server], agent: str) -> None:
    server = servers[1]
    reader = {"who": READER, "password": "value of directory_reader"}
    code, told = server.ask("ldapsearch", "-LLL", "-b", BASE, "*", "+", **reader)
    assert code == 0
    assert "entryUUID" in told
    assert f"dn: {agent}" in told
    assert "userPassword" not in told
    assert "ou=accounts" not in told.replace("creatorsName", "")
    change = f"dn: {agent}\nchangetype: modify\nreplace: sn\nsn: Pirate\n"
    assert server.ask("ldapmodify", text=change, **reader)[0] != 0
    code, told = server.ask("ldapsearch", "-LLL", "-b", BASE, who=agent, password=PASSWORD)
    assert "dn:" not in told  # agents themselves read nothing


def test_wrong_passwords_close_out_an_agent_and_never_the_application(servers: list[Server], agent: str) -> None:
    first, second = servers
    for _ in range(6):
        first.ask("ldapwhoami", who=agent, password="faux")
        first.ask("ldapwhoami", who=READER, password="faux")
    assert first.ask("ldapwhoami", who=agent, password=PASSWORD)[0] == first.tool.INVALID_CREDENTIALS
    until(
        lambda: second.ask("ldapwhoami", who=agent, password=PASSWORD)[0] == second.tool.INVALID_CREDENTIALS,
        "the other room lets in whom this one locked out",
    )
    assert first.reads(agent)
    unlock = f"dn: {agent}\nchangetype: modify\ndelete: pwdAccountLockedTime\n"
    first.tool.as_root("ldapmodify", text=unlock)


def test_an_entry_is_locked_as_the_procedure_says_and_opened_again(servers: list[Server], agent: str) -> None:
    first, second = servers
    page = (ROOT / "runbooks/procedures/leaver.md").read_text(encoding="utf-8")
    found = re.search(r"ldapmodify .* -Q (-e relax) <<'LDIF'\n(.*?)\n +LDIF", page, re.DOTALL)
    assert found is not None
    change = re.sub(r"^ +", "", found[2], flags=re.MULTILINE).replace("uid=<identifier>", "uid=cessai")
    first.tool.as_root("ldapmodify", *found[1].split(), text=f"{change}\n")
    until(
        lambda: second.ask("ldapwhoami", who=agent, password=PASSWORD)[0] == second.tool.INVALID_CREDENTIALS,
        "the other room lets in who was locked in this one",
    )
    first.tool.as_root("ldapmodify", text=f"dn: {agent}\nchangetype: modify\ndelete: pwdAccountLockedTime\n")
    until(lambda: second.ask("ldapwhoami", who=agent, password=PASSWORD)[0] == 0, "the other room did not open again")


def test_a_new_secret_counts_after_the_next_run(servers: list[Server], agent: str) -> None:
    first, second = servers
    (first.home / "reader.password").write_text("another secret", encoding="utf-8")
    assert first.tool.fill() == "filled"
    assert first.tool.fill() == "unchanged"
    until(lambda: not second.reads(agent), "the other room still takes the former secret")
    (first.home / "reader.password").write_text("value of directory_reader", encoding="utf-8")
    first.tool.fill()
    until(lambda: second.reads(agent), "the other room does not take the secret")


def test_dumps_hold_everything_and_the_oldest_go(servers: list[Server], agent: str) -> None:
    server = servers[1]
    (server.home / "dumps").mkdir(exist_ok=True)
    for number in range(4):
        (server.home / "dumps" / f"directory-2026010{number}T000000Z.ldif.gz").write_bytes(b"")
    path = Path(server.tool.dump(keep=3))
    text = gzip.decompress(path.read_bytes()).decode()
    assert f"dn: {agent}\n" in text
    assert "userPassword" in text
    assert path.stat().st_mode & 0o077 == 0
    assert len(list(path.parent.glob("*.gz"))) == 3


def test_a_configuration_that_slapd_refuses_leaves_the_former_one(servers: list[Server]) -> None:
    server = servers[0]
    good = (server.home / "config.ldif").read_text(encoding="utf-8")
    (server.home / "config.ldif").write_text(good.replace("olcModuleLoad: ppolicy", "olcModuleLoad: nothing"))
    with pytest.raises(server.tool.DirectoryError, match="slapadd"):
        server.tool.configure()
    assert (server.home / "slapd.d" / "cn=config.ldif").exists()
    (server.home / "config.ldif").write_text(good)
    assert server.tool.configure() == "unchanged"
