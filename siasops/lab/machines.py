"""The machines of a lab: made by Vagrant, cleared when they are somebody's leftovers.

One lab per machine, unless somebody asks for another environment's beside it, behind a lock per environment that the
kernel gives back when its holder dies: a killed run never leaves it held.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from siasops.change import state as states
from siasops.errors import USAGE, UserError
from siasops.inventory import ROOT, Host, Inventory
from siasops.lab.network import CACHE
from siasops.lab.owners import HOME, Owner, environment_of, forget, owner, require_own
from siasops.lab.provider import Lxc, provider

CONTAINERS = Path("/var/lib/lxc")
SSH_DEADLINE_S = 90.0

Say = Callable[[str], None]


@contextmanager
def lock(inventory: Inventory, what: str, say: Say, *, deadline: float = 1800.0) -> Iterator[None]:
    """Hold this environment's lab; waits for another holder, naming it.

    Args:
        inventory: the environment.
        what: what is being done, told to those who wait.
        say: where to report.
        deadline: seconds to wait.

    Raises:
        UserError: when another run still holds it after the deadline.
    """
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / f"lock-{inventory.environment}").open("a+", encoding="utf-8") as handle:
        end = time.monotonic() + deadline
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                handle.seek(0)
                holder = handle.read().strip() or "another run"
                if time.monotonic() > end:
                    raise UserError(
                        f"The lab is held by {holder}; waited {deadline:.0f} s. Stop it, or wait."
                    ) from None
                if not told:
                    say(f"waiting for {holder}, which holds the lab")
                    told = True
                time.sleep(0.5)
        handle.truncate(0)
        handle.write(f"{what} (pid {os.getpid()}, {ROOT})")
        handle.flush()
        yield


def release_for(inventory: Inventory, wanted: str | None) -> str:
    """Debian release to build: the one asked for, else the one that the lab already runs, else the default.

    Raises:
        UserError: when the platform does not know that release.
    """
    known = inventory.facts["sias_debian"]
    present = owner(inventory.environment)
    if wanted is None and present and present.checkout == str(ROOT):
        wanted = present.debian
    release = wanted or str(inventory.facts["sias_debian_default"])
    if release not in known:
        raise UserError(f"Debian “{release}” is unknown here; known: {', '.join(known)}.", USAGE)
    return release


def box(inventory: Inventory, release: str) -> Path:
    """Where the box of a release is, keyed by its recipe: another recipe is another box."""
    recipe = (Path(__file__).parent / "box.sh").read_bytes()
    sources = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        check=False,
        timeout=30,
    ).stdout
    key = hashlib.sha256(recipe + sources).hexdigest()[:12]
    codename = inventory.facts["sias_debian"][release]["codename"]
    return CACHE / "boxes" / f"{codename}-{key}.box"


def build_box(inventory: Inventory, release: str, say: Say) -> Path:
    """Build the box of a release unless it is there; a half-built one is removed, with a sentence.

    Raises:
        UserError: with the last lines of the build when it fails.
    """
    target = box(inventory, release)
    target.parent.mkdir(parents=True, exist_ok=True)
    for half in target.parent.glob(".box.*"):
        say(f"cleared {half.name}: a box that a killed run left half-built")
        shutil.rmtree(half, ignore_errors=True)
    if target.exists():
        say(f"box {target.name} is there")
        return target
    codename = inventory.facts["sias_debian"][release]["codename"]
    environment = os.environ | {"SIAS_APT_PROXY": str(inventory.facts["base_apt_proxy"])}
    done = subprocess.run(
        [str(Path(__file__).parent / "box.sh"), codename, str(target)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=900,
    )
    if done.returncode != 0:
        raise UserError(f"The Debian {release} box could not be built:\n{(done.stderr or done.stdout)[-1500:]}")
    return target


def clear_leftovers(inventory: Inventory, release: str, say: Say, *, beside: bool = False) -> None:
    """Remove what would stand in the way: machines that are not this checkout's, not this release's, or half-made.

    Args:
        inventory: the environment that will be built.
        release: its Debian.
        say: told each machine that goes, and why.
        beside: leave the labs of other environments alone, instead of having this machine to ourselves.
    """
    for path in sorted(CONTAINERS.glob("sias-*")) if CONTAINERS.exists() else []:
        whose = environment_of(path.name)
        if beside and whose not in (None, inventory.environment):
            continue
        why = _not_ours(inventory, release, whose) or _half_made(inventory, path)
        if why:
            say(f"cleared container {path.name}: {why}")
            remove_container(path.name)
    if _not_ours(inventory, release, inventory.environment):
        shutil.rmtree(inventory.state / "vagrant", ignore_errors=True)
        for stale in ("ssh_config", "known_hosts", "READY"):
            (inventory.state / stale).unlink(missing_ok=True)
    if isinstance(provider(inventory), Lxc):
        _forget_machines_without_container(inventory, say)
    _abandon_change(inventory, say)


def _not_ours(inventory: Inventory, release: str, environment: str | None) -> str:
    present = owner(environment) if environment else None
    if present is None:
        return "no record says who made it"
    if present.checkout != str(ROOT):
        return f"another checkout ({present.checkout}) made it"
    if present.environment != inventory.environment:
        return f"it is the environment {present.environment}"
    return "" if present.debian == release else f"it runs Debian {present.debian}, Debian {release} was asked for"


def _half_made(inventory: Inventory, path: Path) -> str:
    name = path.name.removeprefix(f"sias-{inventory.environment}-")
    identity = inventory.state / "vagrant" / "machines" / name / "lxc" / "id"
    if not identity.exists() or identity.read_text(encoding="utf-8").strip() != path.name:
        return "Vagrant of this checkout does not know it"
    if not (path / "rootfs" / "sbin").exists():
        return "it is half-built"
    if not (identity.parent / "private_key").exists():
        return "Vagrant was interrupted before it gave it a key"
    return ""


def _forget_machines_without_container(inventory: Inventory, say: Say) -> None:
    for identity in (inventory.state / "vagrant" / "machines").glob("*/lxc/id"):
        name = identity.read_text(encoding="utf-8").strip()
        if not (CONTAINERS / name).exists():
            say(f"forgot machine {identity.parent.parent.name}: its container is gone")
            shutil.rmtree(identity.parent)


def remove_container(name: str) -> None:
    """Stop and delete one container, in whatever state it is."""
    where = ["--lxcpath", str(CONTAINERS), "--name", name]
    for command in (["lxc-unfreeze", *where], ["lxc-stop", "--kill", *where], ["lxc-destroy", "--force", *where]):
        subprocess.run(command, capture_output=True, check=False, timeout=60)
    if (CONTAINERS / name).exists():  # a half-made one has no configuration that lxc-destroy could read
        shutil.rmtree(CONTAINERS / name, ignore_errors=True)


def vagrant(inventory: Inventory, release: str, *arguments: str, timeout: float = 600.0) -> None:
    """Run Vagrant on this environment's machines.

    Raises:
        UserError: with its last lines when it fails.
    """
    environment = os.environ | {
        "VAGRANT_HOME": str(HOME / "vagrant"),
        "VAGRANT_DOTFILE_PATH": str(inventory.state / "vagrant"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "SIAS_INVENTORY": inventory.path.stem,
        "SIAS_LAB_DEBIAN": release,
        "SIAS_LAB_BOX": str(box(inventory, release)),
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        ["vagrant", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode != 0:
        # What it says of the machines that came up is long, and why one did not stands on stderr.
        why = f"{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
        raise UserError(f"“vagrant {' '.join(arguments)}” failed:\n{why.strip()}")


def start(inventory: Inventory, release: str, say: Say) -> None:
    """Create what is missing, start what is stopped, and wait until every machine answers over ssh."""
    inventory.state.mkdir(parents=True, exist_ok=True)
    HOME.mkdir(parents=True, exist_ok=True)
    power = provider(inventory)
    missing = set(inventory.hosts) - set(power.running())
    if missing:
        _forget_host_keys(inventory, missing)
        Owner(str(ROOT), inventory.environment, release).write()
        _forget_other_box(inventory, release)
        vagrant(inventory, release, "up", "--no-provision", "--parallel")
    else:
        stopped = [h for h in inventory.hosts.values() if not power.running()[h.name]]
        if stopped:
            say(f"starting {', '.join(h.name for h in stopped)}")
            power.power_on(stopped)
    if isinstance(power, Lxc):
        for host in inventory.hosts.values():  # a drill that was killed may have left these behind
            power.thaw(host)
            power.link_up(host)
    write_ssh_config(inventory)
    wait_for_ssh(inventory)


def rebuild(inventory: Inventory, name: str, release: str, say: Say) -> None:
    """Make one machine anew, bare, on a release of its own; the others are left alone. Nothing of its data is left.

    Args:
        inventory: the environment.
        name: the machine.
        release: its Debian.
        say: told what is done.

    Raises:
        UserError: another checkout built this lab, or Vagrant cannot make it.
    """
    power = provider(inventory)
    if not isinstance(power, Lxc):
        raise UserError(f"{power.name}: this project makes single machines anew as containers only; do it by hand.")
    require_own(inventory)
    build_box(inventory, release, say)
    remove_container(power.container(name))
    shutil.rmtree(inventory.state / "vagrant" / "machines" / name, ignore_errors=True)
    _forget_host_keys(inventory, {name})
    _forget_other_box(inventory, release)
    vagrant(inventory, release, "up", "--no-provision", name)
    write_ssh_config(inventory)
    wait_for_ssh(inventory, [name])


def _forget_host_keys(inventory: Inventory, names: set[str]) -> None:
    """A machine that is made anew has another key; only machines that this run makes are forgotten."""
    known = inventory.state / "known_hosts"
    if known.exists():
        gone = names | {inventory.hosts[name].address for name in names}  # Ansible writes names, pyinfra addresses
        kept = [line for line in known.read_text(encoding="utf-8").splitlines() if line.split(" ")[0] not in gone]
        known.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _forget_other_box(inventory: Inventory, release: str) -> None:
    """Vagrant keys boxes by name alone: drop its copy when the recipe has changed."""
    stamp = HOME / "vagrant" / f"box-{release}"
    wanted = box(inventory, release).name
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(HOME / "vagrant" / "boxes" / f"sias-VAGRANTSLASH-debian-{release}", ignore_errors=True)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(wanted, encoding="utf-8")


def write_ssh_config(inventory: Inventory) -> None:
    """Write the ssh configuration that Ansible, pyinfra, testinfra and people share (`ssh -F`)."""
    known = inventory.state / "known_hosts"
    lines = []
    name = os.environ.get("VAGRANT_DEFAULT_PROVIDER", "lxc")
    for host in inventory.hosts.values():
        key = inventory.state / "vagrant" / "machines" / host.name / name / "private_key"
        lines += [
            f"Host {host.name} {host.address}",
            f"  HostName {host.address}",
            f"  User {inventory.facts['ansible_user']}",
            f"  IdentityFile {key}",
            f"  HostKeyAlias {host.name}",
            "  IdentitiesOnly yes",
            f"  UserKnownHostsFile {known}",
            "  StrictHostKeyChecking accept-new",  # known_hosts starts empty with each new lab
            "  LogLevel ERROR",
            "",
        ]
    (inventory.state / "ssh_config").write_text("\n".join(lines), encoding="utf-8")


def ssh(
    inventory: Inventory, host: Host | str, *command: str, timeout: float = 15.0
) -> subprocess.CompletedProcess[str]:
    """Run one command over ssh, with the lab's own configuration."""
    name = host if isinstance(host, str) else host.name
    config = str(inventory.state / "ssh_config")
    return subprocess.run(
        ["ssh", "-F", config, "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", name, *command],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def wait_for_ssh(inventory: Inventory, names: Iterable[str] | None = None, deadline: float = SSH_DEADLINE_S) -> None:
    """Wait until every machine, or each of those named, has finished booting.

    Raises:
        UserError: naming the machines that do not answer, with what ssh said.
    """
    end = time.monotonic() + deadline
    missing = dict.fromkeys(inventory.hosts if names is None else names, "not tried")
    while missing:
        for name in list(missing):
            answer = ssh(inventory, name, "systemctl", "is-system-running", "--wait", timeout=60)
            if answer.stdout.strip() in ("running", "degraded"):
                del missing[name]
            else:
                missing[name] = (answer.stderr or answer.stdout).strip()[-200:]
        if missing and time.monotonic() > end:
            told = "; ".join(f"{name}: {why}" for name, why in missing.items())
            raise UserError(f"Machines that do not answer over ssh after {deadline:.0f} s: {told}")
        if missing:
            time.sleep(0.5)


def destroy(inventory: Inventory, say: Say) -> None:
    """Remove this environment's machines, and those that no record names, and what this checkout knew of them."""
    if not isinstance(provider(inventory), Lxc):
        vagrant(inventory, release_for(inventory, None), "destroy", "--force")
    for path in sorted(CONTAINERS.glob("sias-*")) if CONTAINERS.exists() else []:
        if environment_of(path.name) in (None, inventory.environment):
            remove_container(path.name)
            say(f"removed {path.name}")
    for name in ("vagrant", "ssh_config", "known_hosts", "READY"):
        path = inventory.state / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    forget(inventory.environment)
    _abandon_change(inventory, say)


def _abandon_change(inventory: Inventory, say: Say) -> None:
    """End the change that stands half-way when none of the machines that it was made on is left."""
    if any((inventory.state / "vagrant" / "machines").glob("*/*/id")):
        return
    gone = states.abandon(inventory, "the lab was removed")
    if gone is not None:
        say(f"{gone.id} ({gone.story}) stood half-way and ended with it")


def make_secrets(inventory: Inventory, say: Say) -> None:
    """Make the lab's secrets that are missing, at random, readable by this user alone."""
    wanted = yaml.safe_load((ROOT / "roles/preflight/defaults/main.yml").read_text(encoding="utf-8"))[
        "preflight_secrets"
    ]
    path = inventory.secrets_file
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    present: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    missing = [key for key in wanted if key not in present]
    if not missing:
        return
    present |= {key: secrets.token_urlsafe(24) for key in missing}
    temporary = path.with_suffix(".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        yaml.safe_dump(present, handle)
    temporary.replace(path)
    say(f"made {len(missing)} secrets in {path}")
