"""What modules call: `register` once, `publish` whenever a case is opened, changed or closed."""

from dataclasses import dataclass
from datetime import date

from django.db import transaction

from sias.crossdomain.models import Involvement, Signpost
from sias.repertoire.models import Person

# Whose records the database hides (see migration 0002): a domain that registers as protected is one of these.
PROTECTED = ("ase", "pmi", "medical")


@dataclass(frozen=True)
class Domain:
    """A domain of social action. Of a protected one (child welfare, PMI, medical) others learn the service to call only."""

    code: str
    name: str
    protected: bool = False


DOMAINS: dict[str, Domain] = {}


def register(code: str, name: str, *, protected: bool = False) -> Domain:
    """Declare a domain, in the `ready` of a module's AppConfig. Raises LookupError for one the database does not protect."""
    if protected and code not in PROTECTED:
        raise LookupError(f"{code!r}: name the domain in PROTECTED, in a migration too")
    DOMAINS[code] = Domain(code, name, protected)
    return DOMAINS[code]


def publish(
    domain: str,
    reference: str,
    person: Person,
    *,
    status: str,
    service: str = "",
    referent: object = None,
    since: date,
    until: date | None = None,
) -> Involvement:
    """Create or correct the record of a case, in the transaction that changes the case.

    Whoever changes a case of a protected domain may read that domain; a duty says `acting_for_nobody`.

    `reference` is the case's own key in its module; `status` one or two words that tell nothing of the content. Raises
    LookupError for a domain that no module registered, TransactionManagementError outside a transaction.
    """
    if domain not in DOMAINS:
        raise LookupError(f"no module registered the domain {domain!r}")
    if not transaction.get_connection("default").in_atomic_block:
        raise transaction.TransactionManagementError("publish() belongs to the transaction that changes the case")
    values = {
        "person": person,
        "status": status,
        "service": service,
        "referent": referent,
        "since": since,
        "until": until,
    }
    record, _created = Involvement.objects.using("default").update_or_create(
        domain=domain, reference=reference, defaults=values
    )
    if DOMAINS[domain].protected:
        Signpost.objects.using("default").update_or_create(
            involvement=record, defaults={"person": person, "service": service}
        )
    return record


def withdraw(domain: str, reference: str) -> None:
    """Remove the record of a case that was opened by mistake."""
    Involvement.objects.using("default").filter(domain=domain, reference=reference).delete()
