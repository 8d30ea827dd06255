"""Queries of every endpoint, from an application host: `sias-manage endpoint_queries` visits each, and leaves nothing behind.

They hold personal data. They are kept in memory until the plan gate has run them, and are shown by nobody.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from siasops.cluster.check import Line
from siasops.errors import UserError
from siasops.migrate.plans import Query, Sent
from siasops.remote import TIMED_OUT, Fleet

COMMAND = ["sias-manage", "endpoint_queries"]
LIMIT = 900.0
"""Seconds for all visits; a whole population wants about two minutes."""
HELP_LIMIT = 60.0
TOGETHER = 100.0
"""Weight of all queries together, as much as that of the critical ones."""
_SETTING = re.compile(r"[a-z_]+\.[a-z_]+")
_CONSTANT = re.compile(r"'(?:[^']|'')*'|\$\d+|(?<![\w.$])\d+(?:\.\d+)?|\b(?:true|false|null)\b")


def ask(fleet: Fleet, hosts: Iterable[str], statements: Iterable[Query], say: Callable[[str], None]) -> list[Query]:
    """Have the first application host that answers visit every endpoint.

    Args:
        fleet: the hosts.
        hosts: those of the application.
        statements: of pg_stat_statements; how often a query was called is its weight, once when nobody knows.
        say: told how many there are, and what could not be visited.

    Raises:
        UserError: no host answers, the visits failed, most of them did, or nothing came of them.
    """
    for host in hosts:
        answer = fleet.run(host, COMMAND, timeout=LIMIT)
        if answer.reached:
            break
    else:
        raise UserError("No application host answers: what the endpoints ask cannot be known.")
    if not answer.ok:
        # Never the standard output: it holds values.
        why = f"not done in {LIMIT:.0f} s" if answer.returncode == TIMED_OUT else answer.stderr.strip()[-400:]
        raise UserError(f"{host}: the endpoints could not be visited: {why or 'no reason was given'}")
    try:
        *rows, last = map(json.loads, answer.stdout.splitlines())
        found = [_query(row, str(last["role"])) for row in rows]
        visited, unvisited, excused = int(last["endpoints"]), dict(last["unvisited"]), dict(last["excused"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{host}: what `{' '.join(COMMAND)}` says is not understood; see its release.") from None
    if not found:
        raise UserError(f"{host}: {visited} endpoints were visited, and no query was seen: nothing can be compared.")
    say(f"{host}: {len(found)} queries of {visited} endpoints, {sum(len(query.sent) for query in found)} with values;"
        f" left out on purpose: {', '.join(excused) or 'none'}")  # fmt: skip
    if unvisited:
        say(f"not visited, or not always: {'; '.join(f'{name} ({why})' for name, why in unvisited.items())}")
    if len(unvisited) > visited:
        raise UserError(
            f"{host}: {len(unvisited)} endpoints could not be visited, and {visited} could: too few to go by."
        )
    return weighed(found, statements)


def known(fleet: Fleet, hosts: Iterable[str]) -> Line:
    """Whether the release that runs knows the visits: long before they are wanted."""
    answers = fleet.run_all([*COMMAND, "--help"], hosts=list(hosts), timeout=HELP_LIMIT)
    without = [host for host, answer in answers.items() if not answer.ok]
    return Line(
        bool(answers) and not without,
        "The application can say what its endpoints ask",
        f"not on {', '.join(without)}" if without else f"on {', '.join(answers)}",
        "Release this checkout first (`sias release run`), or see why the host does not answer." if without else "",
    )


def _query(row: dict[str, Any], role: str) -> Query:
    text = str(row["text"])
    sent = tuple(Sent(str(one["sql"]), dict(one["settings"]), role) for one in row["sets"])
    if not sent or not all(_SETTING.fullmatch(name) for one in sent for name in one.settings):
        raise ValueError("a query without statements, or a setting that is none")
    # Its text alone would be too long a name; what it is called stays the same from one run to the next.
    return Query(f"{row['endpoint']} {sha256(text.encode()).hexdigest()[:8]}", text, sent=sent)


def weighed(queries: Iterable[Query], statements: Iterable[Query]) -> list[Query]:
    """Give each query its share of the calls, by the text of pg_stat_statements that it becomes there."""
    calls: Counter[str] = Counter()
    for statement in statements:
        calls[_kind(statement.text)] += int(statement.weight)
    counted = [(query, calls[_kind(query.text)] or 1) for query in queries]
    total = sum(count for _, count in counted)
    return [replace(query, weight=TOGETHER * count / total) for query, count in counted]


def _kind(text: str) -> str:
    """Return a text with one mark for every constant, parameter and list: both sides write these differently."""
    text = re.sub(r"(?:\?(?:::\w+(?:\[\])?)*|\.\.\.)", "?", _CONSTANT.sub("?", text.lower()))
    return re.sub(r"\?(?:, ?\?)+", "?", " ".join(text.split()))
