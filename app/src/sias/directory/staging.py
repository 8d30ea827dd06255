"""What a reading of the directory would change, agent by agent. Nothing is written here."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models.functions import Lower
from django.utils import timezone

from sias.accounts.models import Posting
from sias.api.models import Partner
from sias.directory.client import Reading, canonical
from sias.directory.entries import Seen, look
from sias.directory.models import Card, GroupRule, RunRow
from sias.habilitations.models import Assignment
from sias.habilitations.table import table
from sias.socle import versions
from sias.socle.models import Service
from sias.socle.text import normalise

SOURCE = "annuaire"
FEW = 5  # departures, which are never too many
Verdict = RunRow.Verdict
Right = tuple[str, str, str]  # profile, territory, service


@dataclass
class Staged:
    """An agent, what the directory says and what that changes. Without a verdict nothing does."""

    seen: Seen | None  # None: the entry is no longer there
    card: Card | None
    agent: object | None
    verdict: str = ""
    reason: str = ""
    differences: list[list[str]] = field(default_factory=list)
    wanted: set[Right] = field(default_factory=set)

    def row(self) -> RunRow:
        """Return what is kept of it."""
        return RunRow(
            username=(self.seen.username if self.seen else self.agent.username)[:150],
            dn=(self.seen.entry.dn if self.seen else self.card.dn)[:500],
            verdict=self.verdict,
            reason=self.reason[:300],
            differences=self.differences,
        )


class Staging:
    """See the module."""

    def __init__(self, reading: Reading, *, departures_only: bool = False) -> None:
        self.day: date = timezone.localdate()
        self.now: datetime = timezone.now()
        self.reading = reading
        self.services = {row.code: row for row in Service.objects.on(self.day)}
        self.cards = {card.entry: card for card in Card.objects.select_related("agent")}
        self.posts = {row.agent_id: row for row in versions.on(Posting.objects.all(), self.day)}
        self.held: dict[int, dict[Right, Assignment]] = defaultdict(dict)
        for row in Assignment.objects.filter(source=SOURCE, since__lte=self.day, until__gt=self.day).select_related(
            "agent"
        ):
            self.held[row.agent_id][row.profile, row.territory, row.service] = row
        self._rules = [
            (rule, reading.groups[rule.group])
            for rule in GroupRule.objects.filter(validated_at__isnull=False)
            if rule.group in reading.groups and rule.profile in table().profiles
        ]
        everyone = [self._stage(one) for one in self._known(look(reading.entries, set(self.services), self.now))]
        if departures_only:
            for one in everyone:
                one.verdict = one.verdict if one.verdict == Verdict.GONE else ""
        self.staged = [one for one in everyone if one.verdict]
        self.same = [one for one in everyone if not one.verdict and one.seen and one.agent and not one.seen.gone]

    # --- who is whom ---------------------------------------------------------------------------------------------
    def _known(self, seen: list[Seen]) -> list[Staged]:
        """Tie entries to agents: by the entry's own identity, else by name."""
        names = {one.username for one in seen}
        there = {one.identity for one in seen}
        users = get_user_model().objects.annotate(low=Lower("username"))
        agents = {agent.low: agent for agent in users.filter(low__in=names)}
        technical = set(Partner.objects.values_list("agent_id", flat=True))
        carded = {card.agent_id: card for card in self.cards.values()}
        found = []
        for one in seen:
            card, named = self.cards.get(one.identity), agents.get(one.username)
            if card is None and named is not None and self._made_anew(carded.get(named.pk), one, there):
                card = carded[named.pk]
            staged = Staged(one, card, card.agent if card else None)
            taken = named is not None and (card is None or named.pk != card.agent_id)
            if taken and (named.has_usable_password() or named.pk in technical):
                # Who may sign in here by themselves is never changed by writing their name into the directory.
                staged.reason = f"« {one.username} » est un compte d'ici, que l'annuaire ne reprend pas."
            elif taken and (card is not None or named.pk in carded):
                staged.reason = f"« {one.username} » est déjà un autre agent, parti ou présent."
            elif taken:
                staged.agent = named
            found.append(staged)
        tied = {staged.card.pk for staged in found if staged.card}
        return found + [Staged(None, card, card.agent) for card in self.cards.values() if card.pk not in tied]

    @staticmethod
    def _made_anew(card: Card | None, one: Seen, there: set[str]) -> bool:
        """Tell whether an entry was deleted and made again for the same person: an identifier alone may serve twice."""
        return (
            card is not None
            and card.entry not in there
            and normalise(f"{card.agent.last_name} {card.agent.first_name}")
            == normalise(f"{one.last_name} {one.first_name}")
        )

    # --- what changes --------------------------------------------------------------------------------------------
    def _stage(self, one: Staged) -> Staged:
        gone = one.seen.gone if one.seen else "absent de l'annuaire"
        if one.card is not None and gone:
            if one.card.left_at is None:
                one.verdict, one.reason = Verdict.GONE, gone
            return one
        if gone:  # never was here
            return one
        if wrong := " ".join(filter(None, (one.seen.wrong, one.reason))):
            one.verdict, one.reason = Verdict.REJECTED, wrong
            return one
        one.wanted, one.reason = self._wanted(one.seen)
        one.differences = self._differences(one)
        if one.agent is None or one.card is None:
            one.verdict = Verdict.NEW
        elif one.card.left_at is not None:
            one.verdict = Verdict.BACK
        elif one.differences:
            one.verdict = Verdict.CHANGED
        return one

    def _wanted(self, seen: Seen) -> tuple[set[Right], str]:
        """Return the rights that the groups of an agent give, and which they cannot give."""
        name, wanted, missing = canonical(seen.entry.dn), set(), []
        for rule, members in self._rules:
            if name not in members:
                continue
            territory = self._territory(seen.service) if rule.territory == GroupRule.OWN else rule.territory
            service = seen.service if rule.service == GroupRule.OWN else rule.service
            if not territory or (rule.service == GroupRule.OWN and not service):
                missing.append(f"Groupe {rule.group} : son service n'a pas de territoire.")
            else:
                wanted.add((rule.profile, territory, service))
        return wanted, " ".join(missing)

    def _territory(self, code: str) -> str:
        """Return the territory of a unit, or of the nearest above it that has one."""
        seen: set[str] = set()
        while code in self.services and code not in seen:
            seen.add(code)
            if self.services[code].territory:
                return self.services[code].territory
            code = self.services[code].parent
        return ""

    def _differences(self, one: Staged) -> list[list[str]]:
        seen, agent = one.seen, one.agent
        post = self.posts.get(agent.pk) if agent else None
        held = self.held.get(agent.pk, {}) if agent else {}
        pairs = [
            ("Identifiant", agent.username if agent else "", seen.username),
            ("Nom", agent.last_name if agent else "", seen.last_name),
            ("Prénom", agent.first_name if agent else "", seen.first_name),
            ("Courriel", agent.email if agent else "", seen.email),
            ("Service", post.service if post else "", seen.service),
            ("Fonction", post.function if post else "", seen.function if seen.service else ""),
            ("Habilitations", _words(held), _words(one.wanted)),
        ]
        return [list(pair) for pair in pairs if pair[1] != pair[2]]

    # --- how much that is ----------------------------------------------------------------------------------------
    def locked_out(self) -> int:
        """Return how many agents could do nothing afterwards: gone, or without any of the rights that groups gave."""
        gone = sum(one.verdict == Verdict.GONE and one.agent.is_active for one in self.staged)
        bare = sum(one.verdict == Verdict.CHANGED and self._bare(one) for one in self.staged)
        return gone + bare

    def _bare(self, one: Staged) -> bool:
        return one.agent.is_active and bool(self.held.get(one.agent.pk)) and not one.wanted

    def most(self) -> int:
        """Return how many may be locked out without somebody's word."""
        active = sum(card.left_at is None for card in self.cards.values())
        return max(FEW, active * settings.SIAS_LDAP_MOST_DEPARTURES // 100)

    def counts(self) -> dict[str, int]:
        """Return how many of each sort."""
        found = Counter(str(one.verdict) for one in self.staged)
        return dict(found) | {
            "lus": len(self.reading.entries),
            "inchanges": len(self.same),
            "prives": self.locked_out(),
        }


def _words(rights: object) -> str:
    return ", ".join(" ".join(filter(None, right)) for right in sorted(rights))
