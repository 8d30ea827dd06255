"""Power of the lab's machines, by provider: what a drill does to a host from outside it.

`vagrant halt -f` is graceful, so it is no power cut. A container's link is taken down before it is killed, because
the kernel of the controller would otherwise close its connections politely (FIN, RST) on behalf of the dead.
"""

from __future__ import annotations

import abc
import os
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from siasops.errors import UserError
from siasops.inventory import Host, Inventory
from siasops.lab.owners import require_own

TIMEOUT_S = 60.0


def _run(*command: str, check: bool = True, timeout: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise UserError(f"{command[0]} is not installed here; `make lab` installs what the lab needs.") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"“{' '.join(command)}” did not finish within {timeout:.0f} s.") from error
    if check and done.returncode != 0:
        raise UserError(f"“{' '.join(command)}” failed: {(done.stderr or done.stdout).strip()[-400:]}")
    return done


class Provider(abc.ABC):
    """What every provider can do to machines. All methods may be repeated."""

    name: str

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory

    @abc.abstractmethod
    def running(self) -> dict[str, bool]:
        """Whether each host has power; absent machines are not in the answer."""

    @abc.abstractmethod
    def _cut_link(self, host: Host) -> None: ...

    @abc.abstractmethod
    def _kill(self, host: Host) -> None: ...

    @abc.abstractmethod
    def _start(self, host: Host) -> None: ...

    @abc.abstractmethod
    def freeze(self, host: Host) -> None:
        """Stop every process of the host; its kernel still accepts connections."""

    @abc.abstractmethod
    def thaw(self, host: Host) -> None:
        """Undo `freeze`."""

    def power_cut(self, hosts: Iterable[Host]) -> None:
        """Take the power of hosts at once: all links first, then the machines.

        Raises:
            UserError: when another checkout built the lab of this machine.
        """
        require_own(self.inventory)
        chosen = list(hosts)
        for host in chosen:
            self._cut_link(host)
        self._each(self._kill, chosen)

    def power_on(self, hosts: Iterable[Host]) -> None:
        """Give power back; hosts that have it are left alone. Raises UserError as `power_cut` does."""
        require_own(self.inventory)
        up = self.running()
        self._each(self._start, [h for h in hosts if not up.get(h.name, False)])

    @staticmethod
    def _each(action: object, hosts: list[Host]) -> None:
        assert callable(action)  # noqa: S101
        with ThreadPoolExecutor(max(len(hosts), 1)) as pool:
            list(pool.map(action, hosts))


class Lxc(Provider):
    """System containers made by vagrant-lxc."""

    name = "lxc"

    def container(self, host: Host | str) -> str:
        """Name of a host's container, as in the Vagrantfile."""
        return f"sias-{self.inventory.environment}-{host if isinstance(host, str) else host.name}"

    def running(self) -> dict[str, bool]:
        """Containers of this environment that exist, and whether they run (a frozen one does)."""
        listed = _run("lxc-ls", "--fancy", "--fancy-format", "NAME,STATE").stdout.splitlines()[1:]
        states = dict(line.split()[:2] for line in listed if line.strip())
        return {
            name: states[self.container(name)] != "STOPPED"
            for name in self.inventory.hosts
            if self.container(name) in states
        }

    def _link(self, host: Host) -> str:
        """The controller's end of the host's cable, as in the Vagrantfile (15 characters at most)."""
        return f"{str(self.inventory.facts['lab_bridge']).removeprefix('sias')}-{host.name}"

    def link_up(self, host: Host) -> None:
        """Undo what a killed drill may have left: the host's cable pulled."""
        _run("ip", "link", "set", self._link(host), "up", check=False)

    def _cut_link(self, host: Host) -> None:
        _run("ip", "link", "set", self._link(host), "down", check=False)  # gone already when it has no power

    def _kill(self, host: Host) -> None:
        self.thaw(host)  # a frozen container cannot be killed
        _run("lxc-stop", "--kill", "--name", self.container(host), check=False)
        if self.running().get(host.name):
            raise UserError(f"{host.name}: container {self.container(host)} still runs after lxc-stop --kill.")

    def _start(self, host: Host) -> None:
        _run("lxc-start", "--daemon", "--name", self.container(host))

    def freeze(self, host: Host) -> None:
        """See `Provider.freeze`."""
        _run("lxc-freeze", "--name", self.container(host))

    def thaw(self, host: Host) -> None:
        """See `Provider.thaw`."""
        _run("lxc-unfreeze", "--name", self.container(host), check=False)


class Libvirt(Provider):
    """Virtual machines of vagrant-libvirt. Written with care, not exercised by this project's tests."""

    name = "libvirt"

    def _domain(self, host: Host) -> str:
        return f"{self.inventory.path.parent.parent.name}_{host.name}"

    def running(self) -> dict[str, bool]:
        """Domains that exist, and whether they run."""
        known = _run("virsh", "list", "--all", "--name").stdout.split()
        active = _run("virsh", "list", "--name").stdout.split()
        return {n: self._domain(h) in active for n, h in self.inventory.hosts.items() if self._domain(h) in known}

    def _cut_link(self, host: Host) -> None:
        for line in _run("virsh", "domiflist", self._domain(host), check=False).stdout.splitlines()[2:]:
            if line.split():
                _run("virsh", "domif-setlink", self._domain(host), line.split()[-1], "down", check=False)

    def _kill(self, host: Host) -> None:
        _run("virsh", "destroy", self._domain(host), check=False)

    def _start(self, host: Host) -> None:
        _run("virsh", "start", self._domain(host))
        for line in _run("virsh", "domiflist", self._domain(host)).stdout.splitlines()[2:]:
            if line.split():
                _run("virsh", "domif-setlink", self._domain(host), line.split()[-1], "up")

    def freeze(self, host: Host) -> None:
        """See `Provider.freeze`."""
        _run("virsh", "suspend", self._domain(host))

    def thaw(self, host: Host) -> None:
        """See `Provider.thaw`."""
        _run("virsh", "resume", self._domain(host), check=False)


class VirtualBox(Provider):
    """Virtual machines of VirtualBox. Written with care, not exercised by this project's tests."""

    name = "virtualbox"

    def _id(self, host: Host) -> str:
        path = self.inventory.state / "vagrant" / "machines" / host.name / "virtualbox" / "id"
        return path.read_text(encoding="utf-8").strip() if path.exists() else ""

    def running(self) -> dict[str, bool]:
        """Machines that exist, and whether they run."""
        active = _run("VBoxManage", "list", "runningvms").stdout
        return {n: self._id(h) in active for n, h in self.inventory.hosts.items() if self._id(h)}

    def _cut_link(self, host: Host) -> None:
        for card in ("setlinkstate1", "setlinkstate2"):
            _run("VBoxManage", "controlvm", self._id(host), card, "off", check=False)

    def _kill(self, host: Host) -> None:
        _run("VBoxManage", "controlvm", self._id(host), "poweroff", check=False)

    def _start(self, host: Host) -> None:
        _run("VBoxManage", "startvm", self._id(host), "--type", "headless")
        for card in ("setlinkstate1", "setlinkstate2"):
            _run("VBoxManage", "controlvm", self._id(host), card, "on", check=False)

    def freeze(self, host: Host) -> None:
        """See `Provider.freeze`."""
        _run("VBoxManage", "controlvm", self._id(host), "pause")

    def thaw(self, host: Host) -> None:
        """See `Provider.thaw`."""
        _run("VBoxManage", "controlvm", self._id(host), "resume", check=False)


PROVIDERS: dict[str, type[Provider]] = {p.name: p for p in (Lxc, Libvirt, VirtualBox)}


def provider(inventory: Inventory) -> Provider:
    """The provider of this lab: `VAGRANT_DEFAULT_PROVIDER`, else lxc.

    Raises:
        UserError: when the environment is no lab, or the provider is unknown.
    """
    if not inventory.is_lab:
        raise UserError(f"{inventory.environment} is not a lab: this project does not hold the power of its machines.")
    name = os.environ.get("VAGRANT_DEFAULT_PROVIDER", "lxc")
    if name not in PROVIDERS:
        raise UserError(f"VAGRANT_DEFAULT_PROVIDER={name} is unknown; known: {', '.join(PROVIDERS)}.")
    return PROVIDERS[name](inventory)
