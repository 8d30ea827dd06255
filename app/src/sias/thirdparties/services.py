"""What is done to third parties. Modules call `require_payable` before they order a payment."""

from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils import timezone

from sias.socle.text import normalise
from sias.tasks import services as tasks
from sias.thirdparties import bank
from sias.thirdparties.models import FinanceRecord, ThirdParty

FINANCE = "Direction des finances"  # whose box gets what is to be validated


class NotPayableError(Exception):
    """Finance has not validated the present version of the third party; the message says where it stands."""


class StaleError(Exception):
    """The third party changed since it was read."""


class SameAgentError(Exception):
    """Who enters an IBAN does not validate it."""


class TakenError(Exception):
    """Another third party has this SIRET or this number of Finance; the message names it."""


def require_payable(third_party: ThirdParty) -> str:
    """Return the number that Finance pays under, or raise NotPayableError. Asks the database again."""
    now = ThirdParty.objects.using("default").get(pk=third_party.pk)
    if now.state != ThirdParty.State.VALID:
        raise NotPayableError(f"{now} : {now.get_state_display().lower()}. {now.refusal}".strip())
    return now.finance_number


def _key(third_party: ThirdParty) -> str:
    return f"tiers:{third_party.pk}"


def save(data: dict, agent: object, third_party: ThirdParty | None = None) -> ThirdParty:
    """Create or change a third party; whatever Finance has to look at again goes back to its box.

    `data`: name, siret, iban (clear; "" keeps it), address, person, and version of the one that was read. Raises
    StaleError, TakenError.
    """
    with transaction.atomic():
        if third_party is None:
            third_party, again = ThirdParty(), True
        else:
            third_party = ThirdParty.objects.using("default").select_for_update().get(pk=third_party.pk)
            if third_party.version != data["version"]:
                raise StaleError
            third_party.version += 1
            again = third_party.state == ThirdParty.State.REFUSED
        for name in ("name", "siret", "address", "person"):
            again = again or (getattr(third_party, name) != data[name] and name != "address")
            setattr(third_party, name, data[name])
        if data["iban"] and (
            not third_party.iban_index or bytes(third_party.iban_index) != bank.blind_index(data["iban"])
        ):
            third_party.set_iban(data["iban"])
            again = True
        third_party.changed_by = agent
        if again:
            third_party.state, third_party.refusal = ThirdParty.State.WAITING, ""
            third_party.decided_at = third_party.decided_by = None
        try:
            with transaction.atomic():
                third_party.save()
        except IntegrityError as error:
            raise _taken(error, third_party) from error
        if again:
            tasks.push(
                "tiers-a-valider",
                f"Valider le tiers {third_party}",
                service=FINANCE,
                url=third_party.get_absolute_url(),
                external_key=f"{_key(third_party)}:{third_party.version}",
                agent=agent,
            )
    return third_party


def _taken(error: IntegrityError, third_party: ThirdParty) -> Exception:
    for name, constraint in (("siret", "third_party_siret"), ("finance_number", "third_party_number")):
        if constraint in str(error):
            holder = ThirdParty.objects.using("default").get(**{name: getattr(third_party, name)})
            return TakenError(f"{holder} ({holder.get_absolute_url()}) porte déjà ce numéro.")
    return error


def decide(identity: int, version: int, agent: object, *, number: str = "", refusal: str = "") -> ThirdParty:
    """Validate under Finance's `number`, or refuse with a reason. The same decision again changes nothing.

    Raises ThirdParty.DoesNotExist, StaleError, SameAgentError, TakenError.
    """
    state = ThirdParty.State.VALID if number else ThirdParty.State.REFUSED
    with transaction.atomic():
        third_party = ThirdParty.objects.using("default").select_for_update().get(pk=identity)
        if third_party.version != version:
            raise StaleError
        if (third_party.state, third_party.refusal) == (state, refusal) and number in {"", third_party.finance_number}:
            return third_party
        if third_party.state != ThirdParty.State.WAITING:
            raise StaleError
        if third_party.changed_by_id == agent.pk:
            raise SameAgentError
        third_party.state, third_party.refusal = state, refusal
        third_party.finance_number = number or third_party.finance_number
        third_party.decided_at, third_party.decided_by = timezone.now(), agent
        try:
            with transaction.atomic():
                third_party.save()
        except IntegrityError as error:
            raise _taken(error, third_party) from error
        tasks.close("SIAS", f"{_key(third_party)}:{version}", agent=agent)
    return third_party


def receive(rows: list[dict], at: datetime) -> int:
    """Keep what Finance sent, newer over older, and return how many rows changed. Sending it twice changes nothing."""
    changed = 0
    with transaction.atomic():
        # In one order, so that two deliveries do not wait for each other.
        for row in sorted(rows, key=lambda row: row["number"]):
            values = {
                "name": row["name"],
                "siret": row["siret"],
                "iban_index": bank.blind_index(row["iban"]),
                "active": row["active"],
                "received_at": at,
            }
            record, created = FinanceRecord.objects.using("default").get_or_create(
                number=row["number"], defaults=values
            )
            if not created and record.received_at < at:
                for name, value in values.items():
                    setattr(record, name, value)
                record.save()
                changed += 1
            changed += created
    return changed


@dataclass(frozen=True)
class Difference:
    """Something that SIAS and Finance do not say alike."""

    third_party: ThirdParty | None
    record: FinanceRecord | None
    what: str


def differences(limit: int = 500) -> list[Difference]:
    """Compare what is validated here with what Finance sent."""
    records = {record.number: record for record in FinanceRecord.objects.all()}
    found = []
    for mine in ThirdParty.objects.exclude(finance_number="").order_by("name", "id"):
        theirs = records.pop(mine.finance_number, None)
        if theirs is None:
            found.append(Difference(mine, None, "inconnu des Finances"))
            continue
        what = []
        if not theirs.active and mine.state == ThirdParty.State.VALID:
            what.append("fermé aux Finances, validé ici")
        if bytes(mine.iban_index) != bytes(theirs.iban_index):
            what.append("IBAN différent")
        if mine.siret != theirs.siret:
            what.append(f"SIRET différent ({theirs.siret or 'vide'} aux Finances)")
        if normalise(mine.name) != normalise(theirs.name):
            what.append(f"nom différent ({theirs.name} aux Finances)")
        if what:
            found.append(Difference(mine, theirs, ", ".join(what)))
    known = {mine.siret for mine in ThirdParty.objects.filter(finance_number="").exclude(siret="")}
    for theirs in records.values():
        if theirs.siret in known:
            found.append(Difference(None, theirs, "même SIRET qu'un tiers sans numéro ici"))
        elif theirs.active:
            found.append(Difference(None, theirs, "inconnu de SIAS"))
    return found[:limit]
