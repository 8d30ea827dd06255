"""Commands on the platform's hosts, over SSH, through pyinfra.

    with remote.connect(inventory) as fleet:
        fleet.run("db-a1", "systemctl is-active patroni").stdout
        fleet.run_all(["uname", "-r"])

pyinfra makes the connection and the sudo line; each host is worked by a thread of its own, so that one dead host delays
nobody. pyinfra's own output reader is not used: without gevent's monkey patching of the whole process it cannot time
out, and it does not tell the exit status.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from siasops.errors import UserError
from siasops.inventory import Inventory

CONNECT_TIMEOUT = 10.0
"""Seconds that a host may take to accept an SSH connection. A busy one was seen to need five."""
SESSION_TIMEOUT = 5.0
"""Seconds that a connection which was kept may take to take a command, before it is made anew."""
UNREACHABLE = 255
"""Exit status of a Result whose command never ran to its end, as ssh(1) has it."""
TIMED_OUT = 124
"""Exit status of a Result whose command was stopped by its time limit, as timeout(1) has it."""


class RemoteError(UserError):
    """A host could not be worked: names the host, what was found, and what to do."""


@dataclass(frozen=True)
class Result:
    """What a command answered on one host. `returncode` 255 = the host did not answer, 124 = out of time."""

    host: str
    returncode: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether the command ran and succeeded."""
        return self.returncode == 0

    @property
    def reached(self) -> bool:
        """Whether the host ran the command at all."""
        return self.returncode != UNREACHABLE


class Fleet:
    """Hosts of one environment. Connections are made at the first command for a host, and kept."""

    def __init__(self, inventory: Inventory, hosts: Iterable[str] | None = None) -> None:
        """Nothing is connected yet.

        Args:
            inventory: the environment.
            hosts: only these; None means all.

        Raises:
            RemoteError: a name is not in the inventory, or the lab has no ssh configuration.
        """
        self.inventory = inventory
        self.hosts = list(hosts) if hosts is not None else list(inventory.hosts)
        for name in self.hosts:
            if name not in inventory.hosts:
                raise RemoteError(
                    f"{name} is not a host of {inventory.path.name}; it knows {', '.join(sorted(inventory.hosts))}."
                )
        self._options = _ssh_options(inventory)
        self._clients: dict[str, _Connection] = {}
        self._lock = threading.Lock()

    def run(
        self,
        host: str,
        command: str | list[str],
        *,
        sudo: bool = True,
        timeout: float = 10.0,
        stdin: str | None = None,
        check: bool = False,
    ) -> Result:
        """Run one command on one host.

        Args:
            host: inventory name.
            command: a line for `sh -c`, or a list of arguments.
            sudo: as root.
            timeout: seconds for the whole, connection included; the command is stopped after it.
            stdin: text for its standard input (never put a secret in `command`).
            check: raise unless the command succeeds.

        Returns:
            The result; a host that does not answer has `returncode` 255 and says why in `stderr`.

        Raises:
            RemoteError: with `check`, and for a host that is not part of this fleet.
        """
        result = self.run_each({host: command}, sudo=sudo, timeout=timeout, stdin=stdin)[host]
        if check and not result.ok:
            raise RemoteError(_complaint(result, command))
        return result

    def run_all(
        self,
        command: str | list[str],
        *,
        hosts: Iterable[str] | None = None,
        sudo: bool = True,
        timeout: float = 10.0,
    ) -> dict[str, Result]:
        """Run the same command on every host (or on `hosts`) at once; unreachable ones are reported, not raised."""
        names = self.hosts if hosts is None else list(hosts)
        return self.run_each(dict.fromkeys(names, command), sudo=sudo, timeout=timeout)

    def run_each(
        self,
        commands: Mapping[str, str | list[str]],
        *,
        sudo: bool = True,
        timeout: float = 10.0,
        stdin: str | None = None,
        tell: Callable[[str, str], None] | None = None,
    ) -> dict[str, Result]:
        """Run a command of its own on each host, all at once; see `run`.

        `tell` is given a host's name and each line of its standard output as soon as the line is whole.
        """
        for name in commands:
            if name not in self.hosts:
                raise RemoteError(f"{name} is not part of this connection ({', '.join(self.hosts)}).")
        results: dict[str, Result] = {}

        def work(name: str) -> None:
            results[name] = self._run(name, commands[name], sudo=sudo, timeout=timeout, stdin=stdin, tell=tell)

        # Daemon threads rather than a pool: a pool would wait at exit for a host that is frozen.
        threads = {name: threading.Thread(target=work, args=(name,), daemon=True) for name in commands}
        for thread in threads.values():
            thread.start()
        deadline = time.monotonic() + timeout + CONNECT_TIMEOUT + 2
        for thread in threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        for name in commands:
            if name not in results:
                self._forget(name)
                results[name] = Result(name, UNREACHABLE, "", f"no answer within {timeout:g} s")
        return {name: results[name] for name in commands}

    @contextmanager
    def talk(self, host: str, command: list[str], *, sudo: bool = True) -> Iterator[Talk]:
        """Start a command that answers again and again, over a connection of its own; it ends with the block.

        Raises:
            RemoteError: the host does not answer.
        """
        try:
            connection = _Connection(self.inventory, host, self._options, CONNECT_TIMEOUT)
            try:
                yield connection.talk(command, sudo=sudo)
            finally:
                connection.close()
        except _NotStartedError as error:
            raise RemoteError(f"{host} does not answer: {error}") from error

    def forget(self, hosts: Iterable[str]) -> None:
        """Drop the connections of hosts that have lost their power, so that nobody waits for them."""
        for name in hosts:
            self._forget(name)

    def rebuilt(self, hosts: Iterable[str]) -> None:
        """Reach hosts that were made anew under their names: other machines, with other keys."""
        from pyinfra.connectors.sshuserclient import client  # noqa: PLC0415 - as in _Connection

        self.forget(hosts)
        # Kept for the life of the process otherwise, with the keys of machines that are gone.
        client.get_host_keys.cache.clear()
        client.get_ssh_config.cache.clear()

    def close(self) -> None:
        """Close every connection; never raises."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _run(
        self,
        name: str,
        command: str | list[str],
        *,
        sudo: bool,
        timeout: float,
        stdin: str | None,
        tell: Callable[[str, str], None] | None,
    ) -> Result:
        deadline = time.monotonic() + timeout
        for attempt in (1, 2):
            with self._lock:
                client = self._clients.get(name)
            fresh = client is None
            try:
                if client is None:
                    client = _Connection(self.inventory, name, self._options, min(CONNECT_TIMEOUT, timeout))
                    with self._lock:
                        self._clients[name] = client
                left = max(0.1, deadline - time.monotonic())
                return client.run(command, sudo=sudo, timeout=left, stdin=stdin, tell=tell)
            except _NotStartedError as error:
                # A kept connection may be that of a machine that has since been restarted: once more, afresh. The
                # command has not been started, so that nothing can happen twice.
                self._forget(name)
                if fresh or attempt == 2:  # noqa: PLR2004 - the second and last
                    return Result(name, UNREACHABLE, "", str(error))
            except _CutError as error:
                self._forget(name)
                return Result(name, UNREACHABLE, "", str(error))
        raise AssertionError("unreachable")

    def _forget(self, name: str) -> None:
        with self._lock:
            client = self._clients.pop(name, None)
        if client is not None:
            client.close()


class Talk:
    """A command that runs on a host, whose standard input stays open: one question, one answer, without its start-up time."""

    def __init__(self, host: str, channel: Any) -> None:
        self.host = host
        self._channel = channel

    def ask(self, text: str, mark: str, *, timeout: float) -> str:
        """Send text, and return what the command says until it says `mark`.

        Raises:
            RemoteError: it ended, with what it said, or the time is up; it is not to be asked again.
        """
        end, said, wanted = time.monotonic() + timeout, b"", mark.encode()
        try:
            self._channel.settimeout(timeout)
            self._channel.sendall(text.encode())
            while not said.endswith(wanted):
                self._channel.settimeout(max(0.01, end - time.monotonic()))
                part = self._channel.recv(65536)
                if not part:
                    complaint = b"".join(iter(lambda: self._channel.recv_stderr(65536), b"")).decode(errors="replace")
                    raise RemoteError(f"{self.host}: {complaint.strip()[-600:] or 'the command ended'}")
                said += part
        except OSError as error:
            raise RemoteError(
                f"{self.host}: no answer within {timeout:g} s ({error or type(error).__name__})"
            ) from error
        return said.removesuffix(wanted).decode(errors="replace")


@contextmanager
def connect(inventory: Inventory, hosts: Iterable[str] | None = None) -> Iterator[Fleet]:
    """Open a fleet, and close it at the end of the block."""
    fleet = Fleet(inventory, hosts)
    try:
        yield fleet
    finally:
        fleet.close()


def wait_until(
    condition: Callable[[], bool],
    what: str,
    *,
    deadline: float,
    every: float = 0.5,
    say: Callable[[str], None] | None = None,
) -> float:
    """Wait for a condition.

    Args:
        condition: asked again and again.
        what: its name, for the complaint.
        deadline: seconds until giving up.
        every: seconds between two questions.
        say: told when the wait begins.

    Returns:
        Seconds that it took.

    Raises:
        RemoteError: the condition did not hold in time.
    """
    begin = time.monotonic()
    if say:
        say(f"waiting for {what}")
    while True:
        if condition():
            return time.monotonic() - begin
        if time.monotonic() - begin > deadline:
            raise RemoteError(f"{what}: not so within {deadline:g} s.")
        time.sleep(every)


def _complaint(result: Result, command: str | list[str]) -> str:
    line = command if isinstance(command, str) else shlex.join(command)
    line = line if len(line) <= 80 else f"{line[:77]}..."  # noqa: PLR2004 - one terminal line
    said = (result.stderr or result.stdout).strip() or "nothing was said"
    if not result.reached:
        return f"{result.host} does not answer ({said}); see that it is powered on and that ssh works, then run again."
    if result.returncode == TIMED_OUT:
        return f"{result.host}: `{line}` ran out of time; look at the host's load and journal, then run again."
    return f"{result.host}: `{line}` ended with {result.returncode}: {said}"


def _ssh_options(inventory: Inventory) -> dict[str, Any]:
    """Make pyinfra's connection data for every host of the environment."""
    if not inventory.is_lab:
        # Production: the operator's own ssh configuration and known hosts, strictly.
        return {"ssh_user": inventory.facts.get("ansible_user"), "ssh_strict_host_key_checking": "yes"}
    config = inventory.state / "ssh_config"
    if not config.exists():
        raise RemoteError(f"{config} is missing: the lab is not up. Build it with `make lab`.")
    return {"ssh_config_file": str(config), "ssh_allow_agent": False, "ssh_look_for_keys": False}


class _NotStartedError(Exception):
    """The command never began on the host."""


class _CutError(Exception):
    """The link was lost while the command ran: it may or may not have had its effect."""


class _Connection:
    """One SSH connection, made by pyinfra's connector."""

    def __init__(self, inventory: Inventory, name: str, options: dict[str, Any], timeout: float) -> None:
        # pyinfra is imported late: gevent and paramiko take half a second that `sias --help` does not owe.
        from pyinfra.api.config import Config  # noqa: PLC0415
        from pyinfra.api.exceptions import PyinfraError  # noqa: PLC0415
        from pyinfra.api.inventory import Inventory as PyinfraInventory  # noqa: PLC0415
        from pyinfra.api.state import State  # noqa: PLC0415

        for logger in ("paramiko", "pyinfra"):
            # What these say is said again, better, by the errors below.
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        self.name = name
        data = dict(options)
        if "ssh_config_file" not in data:
            data["ssh_hostname"] = inventory.hosts[name].address
        # pyinfra is only partly typed.
        self._state: Any = State(
            PyinfraInventory(([(name, data)], {})),  # type: ignore[no-untyped-call]
            Config(CONNECT_TIMEOUT=max(1, round(timeout))),  # type: ignore[no-untyped-call]
        )
        self._host: Any = self._state.inventory.get_host(name)
        try:
            self._host.connect(show_errors=False, raise_exceptions=True)
        except PyinfraError as error:
            raise _NotStartedError(f"ssh to {inventory.hosts[name].address}: {error}") from error
        connector: Any = self._host.connector
        self._client: Any = connector.client

    def run(
        self,
        command: str | list[str],
        *,
        sudo: bool,
        timeout: float,
        stdin: str | None,
        tell: Callable[[str, str], None] | None = None,
    ) -> Result:
        from pyinfra.api.command import StringCommand  # noqa: PLC0415
        from pyinfra.connectors.util import make_unix_command_for_host  # noqa: PLC0415

        line = command if isinstance(command, str) else shlex.join(command)
        # timeout(1) stops it on the host as well: a closed channel alone would leave it running there.
        limited = shlex.join(["timeout", "-k", "1", f"{timeout:.1f}", "sh", "-c", line])
        raw = make_unix_command_for_host(self._state, self._host, StringCommand(limited), _sudo=sudo).get_raw_value()
        try:
            transport = self._client.get_transport()
            channel = transport.open_session(timeout=min(timeout, SESSION_TIMEOUT))
        except Exception as error:  # paramiko has no common base for its failures
            raise _NotStartedError(f"ssh session: {error or type(error).__name__}") from error
        try:
            return self._talk(channel, raw, timeout, stdin, tell)
        except Exception as error:
            raise _CutError(f"the link was lost: {str(error) or type(error).__name__}") from error
        finally:
            channel.close()

    def talk(self, command: list[str], *, sudo: bool) -> Talk:
        """Start a command, and leave its standard input open."""
        from pyinfra.api.command import StringCommand  # noqa: PLC0415
        from pyinfra.connectors.util import make_unix_command_for_host  # noqa: PLC0415

        raw = make_unix_command_for_host(
            self._state, self._host, StringCommand(shlex.join(command)), _sudo=sudo
        ).get_raw_value()
        try:
            channel = self._client.get_transport().open_session(timeout=SESSION_TIMEOUT)
            channel.exec_command(raw)
        except Exception as error:  # paramiko has no common base for its failures
            raise _NotStartedError(f"ssh session: {error or type(error).__name__}") from error
        return Talk(self.name, channel)

    def _talk(
        self, channel: Any, raw: str, timeout: float, stdin: str | None, tell: Callable[[str, str], None] | None
    ) -> Result:
        """Feed the command and collect both streams until it ends."""
        end = time.monotonic() + timeout + 2  # timeout(1) speaks first, when the host is alive
        channel.settimeout(timeout)
        channel.exec_command(raw)
        if stdin is not None:
            channel.sendall(stdin.encode())
        channel.shutdown_write()
        output: dict[str, list[bytes]] = {"out": [], "err": []}
        begun = b""
        while True:
            quiet = True
            if channel.recv_ready():
                output["out"].append(channel.recv(65536))
                quiet = False
                *whole, begun = (begun + output["out"][-1]).split(b"\n")
                if tell is not None:
                    for line in whole:
                        tell(self.name, line.decode(errors="replace"))
            if channel.recv_stderr_ready():
                output["err"].append(channel.recv_stderr(65536))
                quiet = False
            if quiet and channel.exit_status_ready() and channel.eof_received:
                if not (channel.recv_ready() or channel.recv_stderr_ready()):
                    break
            elif quiet:
                if channel.closed and not channel.exit_status_ready():
                    raise ConnectionResetError("closed by the host")
                if time.monotonic() > end:
                    raise TimeoutError(f"no answer within {timeout:g} s")
                channel.status_event.wait(0.01)
        stdout, stderr = (b"".join(output[key]).decode(errors="replace") for key in ("out", "err"))
        returncode = channel.recv_exit_status()
        if returncode == -1:
            raise ConnectionResetError("the connection ended before the command")
        return Result(self.name, returncode, stdout, stderr)

    def close(self) -> None:
        """Close the socket; never raises, never waits for the host."""
        with contextlib.suppress(Exception):
            self._client.close()
