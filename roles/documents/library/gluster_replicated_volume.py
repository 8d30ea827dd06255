#!/usr/bin/python
"""Ansible module: a Gluster volume replicated over given bricks, from bare daemons to a volume that serves."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gluster_replicated_volume
short_description: A replicated Gluster volume, whatever was begun before
description:
  - Joins the bricks' hosts, creates the volume when there is none, sets what differs, starts it, and waits until
    every brick serves. Each step looks first, so a run that was interrupted anywhere is simply run again.
  - A volume that exists with other bricks is never changed; the module refuses with a sentence.
options:
  name:
    description: Name of the volume.
    type: str
    required: true
  bricks:
    description: Host and path of each brick, in the volume's order; the last one is the arbiter.
    type: list
    elements: dict
    required: true
  options:
    description: Volume options that must hold.
    type: dict
    default: {}
  wait:
    description: Seconds until every host has joined, and again until every brick serves.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Replicate documents over two rooms, with the arbiter on the witness
  gluster_replicated_volume:
    name: sias
    bricks:
      - {host: app-a1, path: /srv/brick/sias}
      - {host: app-b1, path: /srv/brick/sias}
      - {host: witness, path: /srv/brick/sias}
"""

RETURN = r"""
actions:
  description: What was done, or would be done, in words.
  type: list
  elements: str
  returned: always
"""

import subprocess  # noqa: E402
import time  # noqa: E402
import xml.etree.ElementTree as ET  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

COMMAND_LIMIT = 120
"""Seconds for one command of glusterd, which itself gives up after 120."""
CONNECTED = "1"
IN_CLUSTER = "3"


class GlusterError(Exception):
    """What glusterd refused, in its own words."""


def gluster(*arguments):
    """Run a command and return its XML.

    Raises:
        GlusterError: when glusterd does not answer or refuses.
    """
    command = ["gluster", "--mode=script", "--xml", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_LIMIT)
    except subprocess.TimeoutExpired as error:
        raise GlusterError(f"gluster {' '.join(arguments[:3])} did not answer in {COMMAND_LIMIT} s") from error
    try:
        root = ET.fromstring(done.stdout)  # noqa: S314 - the local daemon's own answer
    except ET.ParseError as error:
        said = (done.stderr or done.stdout).strip()
        raise GlusterError(f"gluster {' '.join(arguments[:3])}: {said}") from error
    if root.findtext("opRet") != "0":
        said = root.findtext("opErrstr") or root.findtext("output") or done.stderr.strip()
        raise GlusterError(f"gluster {' '.join(arguments[:3])}: {said}")
    return root


def joined_hosts(root):
    """Names of the hosts that belong to the pool and are connected, from `peer status`."""
    names = set()
    for peer in root.iter("peer"):
        if peer.findtext("connected") == CONNECTED and peer.findtext("state") == IN_CLUSTER:
            names.update(name.text for name in peer.iter("hostname"))
    return names


def volume_state(root, name):
    """The volume of that name as a dict (bricks, started, options), or None, from `volume info`."""
    for volume in root.iter("volume"):
        if volume.findtext("name") == name:
            return {
                "bricks": [brick.findtext("name") for brick in volume.find("bricks")],
                "started": volume.findtext("statusStr") == "Started",
                "options": {o.findtext("name"): o.findtext("value") for o in volume.iter("option")},
            }
    return None


def serving_bricks(root):
    """`host:path` of the bricks that are online, from `volume status`."""
    return {
        f"{node.findtext('hostname')}:{node.findtext('path')}"
        for node in root.iter("node")
        if node.findtext("status") == "1" and (node.findtext("path") or "").startswith("/")
    }


def different_options(wanted, current):
    """Options to set, as a flat list of names and values; the same value in another spelling is no difference."""
    flat = []
    for key in sorted(wanted):
        if str(current.get(key, "")) != str(wanted[key]):
            flat += [key, str(wanted[key])]
    return flat


class Volume:
    """Brings the volume to its wanted state, one look and one step at a time."""

    def __init__(self, module):
        """Take what the task wants."""
        self.module = module
        self.name = module.params["name"]
        self.hosts = [brick["host"] for brick in module.params["bricks"]]
        self.bricks = [f"{brick['host']}:{brick['path']}" for brick in module.params["bricks"]]
        self.options = module.params["options"]
        self.wait = module.params["wait"]
        self.actions = []

    def act(self, words, *arguments):
        """Note the step, and do it unless this is a rehearsal."""
        self.actions.append(words)
        if not self.module.check_mode:
            gluster(*arguments)

    def until(self, missing, what):
        """Ask twice a second until `missing()` returns nothing.

        Raises:
            GlusterError: at the deadline; names what is missing.
        """
        deadline = time.monotonic() + self.wait
        while left := missing():
            if time.monotonic() > deadline:
                raise GlusterError(f"after {self.wait} s {what}: {', '.join(sorted(left))}")
            time.sleep(0.5)

    def missing_hosts(self):
        """Hosts that have not joined; the own one always has."""
        return set(self.hosts[1:]) - joined_hosts(gluster("peer", "status"))

    def missing_bricks(self):
        """Bricks that do not serve, as this host sees them."""
        try:
            return set(self.bricks) - serving_bricks(gluster("volume", "status", self.name))
        except GlusterError as error:
            # Another command holds the volume's lock; the deadline is the caller's.
            if "Another transaction" in str(error) or "Locking failed" in str(error):
                return set(self.bricks)
            raise

    def ensure(self):
        """Do what is left to do; return the actions."""
        for host in sorted(self.missing_hosts()):
            self.act(f"join {host}", "peer", "probe", host)
        if self.actions and not self.module.check_mode:
            self.until(self.missing_hosts, "not joined (is glusterd up there, with a certificate of this authority?)")

        state = volume_state(gluster("volume", "info"), self.name)
        if state is None:
            # force: the brick may lie on the root file system, or carry the mark of a creation that was interrupted.
            self.act(
                f"create volume {self.name} on {', '.join(self.bricks)}",
                *("volume", "create", self.name, "replica", "3", "arbiter", "1", "transport", "tcp"),
                *(*self.bricks, "force"),
            )
            state = {"bricks": self.bricks, "started": False, "options": {}}
        if state["bricks"] != self.bricks:
            raise GlusterError(
                f"volume {self.name} has the bricks {', '.join(state['bricks'])} but the inventory says "
                f"{', '.join(self.bricks)}: replace a brick by its runbook, never by this role"
            )
        if different := different_options(self.options, state["options"]):
            self.act(f"set {' '.join(different[::2])}", "volume", "set", self.name, *different)
        if not state["started"]:
            self.act(f"start volume {self.name}", "volume", "start", self.name)
        if not self.module.check_mode:
            self.until(self.missing_bricks, "these bricks do not serve")
        return self.actions


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "bricks": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"host": {"type": "str", "required": True}, "path": {"type": "path", "required": True}},
            },
            "options": {"type": "dict", "default": {}},
            "wait": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    volume = Volume(module)
    try:
        actions = volume.ensure()
    except GlusterError as error:
        module.fail_json(msg=str(error), actions=volume.actions)
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
