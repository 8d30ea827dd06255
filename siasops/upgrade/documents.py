"""The document volume between two Glusters, and a brick that was built again.

Gluster 11 (Debian 13) no longer writes the option `nfs.disable` into a volume's description. Descriptions are compared by
their checksum, and a peer whose checksum differs is rejected: so the line goes from every brick's file before the first
host is upgraded. `gluster volume reset` puts it back, so it is the file that is edited, while no glusterd runs anywhere.
Clients meanwhile read and write through the bricks' own processes, which Debian's unit would end with glusterd: for so long
a setting that lives in memory has them stay.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable

from siasops.cluster.absence import HEALER, HEALER_STOP, HEALERS
from siasops.cluster.address import FOLDER as AWAY
from siasops.inventory import WITNESS_ROOM, Inventory
from siasops.remote import Fleet, RemoteError, wait_until

HOME = "/var/lib/glusterd"
JOIN_LIMIT = 120.0
"""Seconds for a glusterd to be taken in by its peers."""
HEAL_LIMIT = 4 * 3600.0
"""Seconds for a brick that was built again to be filled."""
COUNT_LIMIT = 300.0
STAY = "/run/systemd/system/glusterd.service.d/bricks-stay.conf"
# The healer goes as well: a glusterd that finds one stops and starts it too fast for its own socket, and none is left.
_REST = (
    f"mkdir -p {STAY.rpartition('/')[0]} && printf '[Service]\\nKillMode=process\\n' >{STAY} && systemctl daemon-reload"
    f" && systemctl stop glusterd && {{ {HEALER_STOP}; }}"
    f" && for _ in $(seq 300); do {HEALER} || break; sleep 0.1; done; ! {HEALER}"
)
_GO_ON = f"systemctl start glusterd; code=$?; rm -f {STAY}; systemctl daemon-reload; exit $code"
_OLD_OPTION = "^nfs[.]disable="
_PEER = re.compile(r"^Hostname: (\S+)\n(?:.*\n)*?State: (.+)$", re.MULTILINE)
# What a brick that was built again needs before its glusterd first starts: its former identity, its peers, the volume's
# description, and the mark of the volume on an empty folder. On standard input: JSON of what another brick knows.
_RESTORE = """
import base64, io, json, os, pathlib, shutil, sys, tarfile
told = json.load(sys.stdin)
home, brick = pathlib.Path(told["home"]), pathlib.Path(told["brick"])
if (home / "glusterd.info").exists() and told["uuid"] in (home / "glusterd.info").read_text():
    sys.exit()
shutil.rmtree(home, ignore_errors=True)
home.mkdir(parents=True)
tarfile.open(fileobj=io.BytesIO(base64.b64decode(told["tar"]))).extractall(home)
(home / "peers" / told["uuid"]).unlink(missing_ok=True)
(home / "peers" / told["source_uuid"]).write_text(
    "uuid=%s\\nstate=3\\nhostname1=%s\\n" % (told["source_uuid"], told["source"]))
info = (home / "glusterd.info").read_text().replace(told["source_uuid"], told["uuid"])
(home / "glusterd.info").write_text(info)
(brick / ".glusterfs").mkdir(parents=True, exist_ok=True)
os.setxattr(brick, "trusted.glusterfs.volume-id", bytes.fromhex(told["volume_id"].replace("-", "")))
"""

# Has a brick that lost everything filled from its root down, as `replace-brick` does it: the other bricks note that it lacks
# their root, and healing goes on from there. The note is written through a mount that says it is Gluster's own
# (GF_CLIENT_PID_ADD_REPLICA_MOUNT, -12).
_MARK = """
import json, os, pathlib, subprocess, sys, tempfile, time
told = json.load(sys.stdin)
for path in (pathlib.Path(told["home"]) / "vols" / told["volume"] / "bricks").iterdir():
    facts = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    if facts["hostname"].partition(".")[0] == told["host"]:
        break
else:
    sys.exit("the volume has no brick on " + told["host"])
folder = tempfile.mkdtemp(dir="/run", prefix="sias-documents-")
subprocess.run(["glusterfs", "--volfile-server=" + told["source"], "--volfile-id=/" + told["volume"], "--client-pid=-12",
                "--log-file=/var/log/glusterfs/sias-mark.log", folder], check=True)
try:
    deadline = time.monotonic() + 30
    while True:
        try:
            os.setxattr(folder, "trusted.replace-brick", facts["brick-id"].encode())
            break
        except OSError:  # not connected to every brick yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
finally:
    subprocess.run(["umount", folder], check=False)
    os.rmdir(folder)
"""


def bricks(inventory: Inventory) -> list[str]:
    """Hosts that carry a brick."""
    return [host.name for host in inventory.group("bricks")]


def brick(inventory: Inventory) -> str:
    """Where a brick lies, as the role documents says."""
    return f"/srv/brick/{inventory.cluster}"


def level(inventory: Inventory, fleet: Fleet, say: Callable[[str], None]) -> None:
    """Give every brick's glusterd a description that both Glusters check to the same sum. Harmless when it has.

    Raises:
        RemoteError: a glusterd does not stop, start or meet its peers; bricks and clients go on meanwhile.
    """
    hosts = bricks(inventory)
    info = f"{HOME}/vols/{inventory.cluster}/info"
    found = fleet.run_all(f"grep -c '{_OLD_OPTION}' {info}", hosts=hosts, timeout=30.0)
    with_option = [host for host, answer in found.items() if answer.stdout.strip() not in {"", "0"}]
    unread = [host for host, answer in found.items() if not answer.stdout.strip()]
    if unread:
        raise RemoteError(f"{', '.join(unread)}: {info} cannot be read; is the volume there (`gluster volume info`)?")
    if with_option:
        say(f"the former option goes from the volume's description on {', '.join(with_option)}")
        try:
            _all(fleet, hosts, _REST)
            _all(fleet, hosts, f"sed -i '/{_OLD_OPTION}/d' {info} && sync {info}")
        finally:
            _all(fleet, hosts, _GO_ON)
    for host in hosts:
        wait_joined(inventory, fleet, host)


def wait_joined(inventory: Inventory, fleet: Fleet, host: str) -> None:
    """Wait until a host's glusterd is one of its peers'; one that is rejected is started once more.

    Raises:
        RemoteError: it is not in time; says how each peer sees it.
    """
    others = {name for name in bricks(inventory) if name != host}
    seen: dict[str, str] = {}
    again = True

    def joined() -> bool:
        nonlocal seen, again
        seen = peers(fleet.run(host, "gluster --mode=script peer status", timeout=30.0).stdout)
        if again and any("Rejected" in state for state in seen.values()):
            again = False
            fleet.run(host, "systemctl restart glusterd", timeout=60.0)
        return {name for name, state in seen.items() if state == "Peer in Cluster (Connected)"} >= others

    try:
        wait_until(joined, f"glusterd of {host} is with its peers", deadline=JOIN_LIMIT, every=1.0)
    except RemoteError as error:
        told = "; ".join(f"{name}: {state}" for name, state in seen.items()) or "it does not answer"
        raise RemoteError(f"{error} {told}. See /var/log/glusterfs/glusterd.log there.") from error


def peers(text: str) -> dict[str, str]:
    """Read `gluster peer status`: the state of each peer, by its name in the inventory; some learn it with its domain."""
    return {name.partition(".")[0]: state.strip() for name, state in _PEER.findall(text)}


def versions(inventory: Inventory, fleet: Fleet) -> tuple[int, int]:
    """Operating version of the bricks together, and the highest that all of them could have.

    Raises:
        RemoteError: glusterd does not say.
    """
    host = bricks(inventory)[0]
    found = []
    for option in ("cluster.op-version", "cluster.max-op-version"):
        said = fleet.run(host, f"gluster --mode=script volume get all {option}", timeout=60.0, check=True).stdout
        match = re.search(rf"^{re.escape(option)}\s+(\d+)", said, re.MULTILINE)
        if match is None:
            raise RemoteError(f"{host}: `gluster volume get all {option}` said no number: {said.strip()[-200:]}")
        found.append(int(match[1]))
    return found[0], found[1]


def settle(inventory: Inventory, fleet: Fleet) -> str:
    """Raise the operating version to what every brick has. An older Gluster can join no more.

    Returns:
        What was done, in a sentence.
    """
    present, highest = versions(inventory, fleet)
    if present >= highest:
        return f"Gluster's operating version is {present}, the highest that every brick has"
    host = bricks(inventory)[0]
    fleet.run(host, f"gluster --mode=script volume set all cluster.op-version {highest}", timeout=120.0, check=True)
    return f"Gluster's operating version was raised from {present} to {highest}"


def restore(inventory: Inventory, fleet: Fleet, host: str) -> None:
    """Give a brick that was built again its identity, before anything of Gluster is installed there.

    Everything comes from another brick, so that it works for a host that died as well. Harmless when it has it.

    Raises:
        RemoteError: no other brick knows it.
    """
    name = inventory.cluster
    for source in (other for other in bricks(inventory) if other != host):
        line = (
            f"cd {HOME} && sed -n 's/^UUID=//p' glusterd.info && grep -lE '^hostname[0-9]*={host}([.].*)?$' peers/* | head -n 1"
            f" && sed -n 's/^volume-id=//p' vols/{name}/info && tar -c glusterd.info peers vols | base64 -w 0"
        )
        answer = fleet.run(source, line, timeout=60.0)
        words = answer.stdout.split()
        if not answer.ok or len(words) != 4 or not words[1].startswith("peers/"):  # noqa: PLR2004 - as asked for above
            continue
        told = {
            "home": HOME,
            "brick": brick(inventory),
            "source": source,
            "source_uuid": words[0],
            "uuid": words[1].removeprefix("peers/"),
            "volume_id": words[2],
            "tar": words[3],
        }
        base64.b64decode(words[3], validate=True)
        fleet.run(host, ["python3", "-c", _RESTORE], stdin=json.dumps(told), timeout=60.0, check=True)
        return
    raise RemoteError(f"No other brick knows {host}: see `gluster peer status` on {', '.join(bricks(inventory))}.")


def fill(inventory: Inventory, fleet: Fleet, host: str, say: Callable[[str], None]) -> None:
    """Have a brick that was built again filled by the others, and wait until it holds what they held at the beginning.

    Raises:
        RemoteError: not in time; it goes on by itself.
    """
    wait_joined(inventory, fleet, host)
    source = next(other for other in bricks(inventory) if other != host)
    wanted = _count(inventory, fleet, source)
    # Healing takes what users leave.
    _all(fleet, bricks(inventory), f"pids=$({HEALERS}) && renice -n 19 -p $pids >/dev/null || :")
    command = f"gluster --mode=script volume heal {inventory.cluster}"
    if inventory.host(host).room == WITNESS_ROOM:
        # A full sweep is the last brick's, the arbiter's: its own empty one shows it nothing to do.
        told = {"home": HOME, "volume": inventory.cluster, "host": host, "source": source}
        fleet.run(source, ["python3", "-c", _MARK], stdin=json.dumps(told), timeout=90.0, check=True)
    else:
        command += " full"
    wait_until(
        lambda: fleet.run(source, command, timeout=120.0).ok, f"{source} heals {host}", deadline=120.0, every=3.0
    )
    # The index of what is missing knows nothing of a brick that lost everything: its files are counted instead.
    wait_until(
        lambda: _count(inventory, fleet, host) >= wanted,
        f"{host} holds the {wanted} documents that {source} held",
        deadline=HEAL_LIMIT,
        every=2.0,
        say=say,
    )


def mark_away(inventory: Inventory, fleet: Fleet, host: str) -> None:
    """Say on a bare host's disk that it is away, as it was before it was made anew: it takes no address by itself."""
    rooms = " ".join(f"{AWAY}/room_{letter}" for letter in inventory.rooms)
    fleet.run(host, f"mkdir -p {AWAY} && date -Is >{AWAY}/host && echo 1 | tee {rooms} >/dev/null", check=True)


def _count(inventory: Inventory, fleet: Fleet, host: str) -> int:
    line = f"find {brick(inventory)} -name .glusterfs -prune -o -type f -print | wc -l"
    return int(fleet.run(host, line, timeout=COUNT_LIMIT, check=True).stdout)


def _all(fleet: Fleet, hosts: list[str], line: str) -> None:
    wrong = [answer for answer in fleet.run_all(line, hosts=hosts, timeout=90.0).values() if not answer.ok]
    if wrong:
        told = "; ".join(f"{answer.host}: {(answer.stderr or answer.stdout).strip()[-200:]}" for answer in wrong)
        raise RemoteError(f"“{line}” failed: {told}")
