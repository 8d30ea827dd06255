#!/usr/bin/python
"""Write several small files, folders and links in one task.

A task costs about a second on a busy two-core machine whatever it does; a role that writes ten files with one module
call runs ten times faster than with a loop. Text is rendered by the caller: `lookup('ansible.builtin.template', …)`.
"""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: sias_files
short_description: Write several small files, folders and links in one task
description:
  - Each entry is a file (C(content)), a folder (C(state=directory)), a link (C(link)) or nothing (C(state=absent)).
  - Missing parent folders are made, owned by root with mode 0755.
  - A file appears whole or not at all. Check mode and diff mode are supported.
options:
  files:
    description: What must be there.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Where., type: path, required: true}
      content: {description: Text of the file, type: str}
      link: {description: Target of the link, type: str}
      state: {description: What it is., type: str, choices: [present, directory, absent], default: present}
      mode: {description: Permissions., type: str}
      owner: {description: Owner., type: str, default: root}
      group: {description: Group., type: str, default: root}
      validate:
        description: Command that must accept the new text before it takes the place of the old; %s is its path.
        type: str
  show_diff:
    description: Show contents in diff mode; no for secrets.
    type: bool
    default: true
author: SIAS
"""

EXAMPLES = r"""
- name: Write the configuration
  sias_files:
    files:
      - {path: /etc/thing, state: directory, mode: "0750", group: thing}
      - {path: /etc/thing/thing.conf, content: "{{ lookup('ansible.builtin.template', 'thing.conf.j2') }}"}
  register: __thing_files
  notify: Reload thing
"""

RETURN = r"""
paths:
  description: The paths that changed.
  type: list
  returned: always
"""

DEFAULT_MODES = {"present": "0644", "directory": "0755"}


def read(path: Path) -> str | None:
    """Return the text that is there, None when there is no regular file."""
    if path.is_symlink() or not path.is_file():
        return None
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def set_attributes(module: AnsibleModule, entry: dict[str, Any], changed: bool) -> bool:
    """Set owner, group and mode where they differ."""
    wanted = {
        "path": entry["path"],
        "mode": entry["mode"] or DEFAULT_MODES[entry["state"]],
        "owner": entry["owner"],
        "group": entry["group"],
    }
    arguments = module.load_file_common_arguments({**module.params, **wanted})
    result: bool = module.set_fs_attributes_if_different(arguments, changed)
    return result


def make_parents(path: Path) -> None:
    """Make the folders above."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)


def remove(module: AnsibleModule, path: Path) -> bool:
    """Remove a file or a link; a folder only when it is empty."""
    if not (path.exists() or path.is_symlink()):
        return False
    if not module.check_mode:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    return True


def make_directory(module: AnsibleModule, entry: dict[str, Any], path: Path) -> bool:
    """Make a folder, or mend its owner and mode."""
    missing = not path.is_dir()
    if missing and not module.check_mode:
        make_parents(path)
        path.mkdir(exist_ok=True)
    if missing and module.check_mode:
        return True
    return set_attributes(module, entry, missing)


def make_link(module: AnsibleModule, entry: dict[str, Any], path: Path) -> bool:
    """Point a link to its target, in one step."""
    if path.is_symlink() and str(path.readlink()) == entry["link"]:
        return False
    if not module.check_mode:
        make_parents(path)
        fresh = path.with_name(f".{path.name}.sias-new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(entry["link"])
        fresh.replace(path)
    return True


def refuse_unless_valid(module: AnsibleModule, entry: dict[str, Any], candidate: Path) -> None:
    """Let the entry's own command judge the new text; when it refuses, the old text stays and the task fails."""
    if not entry["validate"]:
        return
    command = [word.replace("%s", str(candidate)) for word in shlex.split(entry["validate"])]
    code, out, err = module.run_command(command)
    if code != 0:
        candidate.unlink()
        module.fail_json(
            msg=f"{entry['path']}: refused by {command[0]}, nothing was changed: {err.strip()} {out.strip()}"
        )


def write_file(module: AnsibleModule, entry: dict[str, Any], path: Path, diffs: list[dict[str, str]]) -> bool:
    """Write a file when its text differs, then mend its owner and mode."""
    before = read(path)
    differs = before != entry["content"]
    if differs and module.params["show_diff"]:
        headers = {"before_header": str(path), "after_header": str(path)}
        diffs.append({"before": before or "", "after": entry["content"], **headers})
    if differs and not module.check_mode:
        make_parents(path)
        # Private until its owner and mode are set, which happens before it takes its name.
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", encoding="utf-8", delete=False
        ) as new:
            new.write(entry["content"])
        refuse_unless_valid(module, entry, Path(new.name))
        set_attributes(module, {**entry, "path": new.name}, changed=True)
        Path(new.name).replace(path)
        return True
    if not path.exists():
        return differs
    return set_attributes(module, entry, differs)


def main() -> None:
    """Apply every entry in order."""
    entry_options = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str"},
        "link": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "directory", "absent"], "default": "present"},
        "mode": {"type": "str"},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "validate": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True, "options": entry_options},
            "show_diff": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    changed: list[str] = []
    diffs: list[dict[str, str]] = []
    for entry in module.params["files"]:
        path = Path(entry["path"])
        try:
            if entry["state"] == "absent":
                done = remove(module, path)
            elif entry["state"] == "directory":
                done = make_directory(module, entry, path)
            elif entry["link"] is not None:
                done = make_link(module, entry, path)
            elif entry["content"] is not None:
                done = write_file(module, entry, path, diffs)
            else:
                module.fail_json(msg=f"{path}: give content, link, or state directory or absent")
        except OSError as error:
            module.fail_json(msg=f"{path}: {error}")
        if done:
            changed.append(str(path))
    module.exit_json(changed=bool(changed), paths=changed, diff=diffs)


if __name__ == "__main__":
    main()
