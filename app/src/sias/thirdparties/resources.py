"""The exchange with Finance: what waits, what it decides, what it holds."""

from datetime import datetime
from typing import Annotated

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema
from pydantic import AwareDatetime, StringConstraints, model_validator

from sias.api.core import ERRORS, ProblemError, Scope, Text, add, idempotent
from sias.thirdparties import bank, services
from sias.thirdparties.models import ThirdParty

router = Router(tags=["Tiers"])
PAGE = 100
Number = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]{1,30}$")]
Identity = Annotated[int, Field(ge=1, le=2**63 - 1)]


class ThirdPartyOut(Schema):
    """A third party as SIAS has it; the IBAN in clear, for Finance pays."""

    id: int
    version: int
    state: str
    name: str
    siret: str
    iban: str
    address: str
    finance_number: str

    @staticmethod
    def of(row: ThirdParty) -> dict:
        """Make it."""
        return {name: getattr(row, name) for name in ThirdPartyOut.model_fields}


class WaitingQuery(Schema):
    """Which ones; `after` is the `id` of the last one received."""

    state: ThirdParty.State = ThirdParty.State.WAITING
    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0


class Decision(Schema):
    """What Finance says of a version: a number, or a reason to refuse."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    finance_number: Number | None = None
    refusal: Annotated[Text, Field(min_length=1, max_length=300)] | None = None

    @model_validator(mode="after")
    def one_of_them(self) -> "Decision":
        """Exactly one."""
        if (self.finance_number is None) == (self.refusal is None):
            raise ValueError("finance_number or refusal, exactly one of them")
        return self


class FinanceIn(Schema):
    """A third party as Finance has it."""

    number: Number
    name: Annotated[Text, Field(min_length=1, max_length=150)]
    siret: Annotated[str, StringConstraints(pattern=r"^(\d{14})?$")] = ""
    iban: Annotated[Text, Field(max_length=42)]
    active: bool = True


class Delivery(Schema):
    """Third parties of Finance as of a moment, 1 to 1000."""

    at: AwareDatetime
    rows: Annotated[list[FinanceIn], Field(min_length=1, max_length=1000)]


class Received(Schema):
    """What the delivery changed, and what is not alike now."""

    changed: int
    differences: int


@router.get("", response={200: list[ThirdPartyOut], **ERRORS}, auth=Scope("third-parties:read"))
def waiting(request: HttpRequest, asked: Query[WaitingQuery]) -> list:  # noqa: ARG001
    """Third parties of a state, 100 at a time."""
    rows = ThirdParty.objects.filter(state=asked.state, pk__gt=asked.after).order_by("pk")
    return [ThirdPartyOut.of(row) for row in rows[:PAGE]]


@router.post("/{identity}/decision", response={200: ThirdPartyOut, **ERRORS}, auth=Scope("third-parties:validate"))
@idempotent
def decide(request: HttpRequest, identity: Identity, data: Decision) -> tuple[int, dict]:
    """Validate or refuse the version that was read; one that changed since is refused with 409."""
    try:
        row = services.decide(
            identity, data.version, request.user, number=data.finance_number or "", refusal=data.refusal or ""
        )
    except ThirdParty.DoesNotExist as missing:
        raise ProblemError(404, "Ce tiers n'existe pas.") from missing
    except services.StaleError as stale:
        raise ProblemError(409, "Ce tiers a changé ou est déjà décidé autrement : relisez-le.") from stale
    except services.SameAgentError as same:
        raise ProblemError(403, "Qui a saisi ce tiers ne le valide pas.") from same
    except services.TakenError as taken:
        raise ProblemError(409, str(taken)) from taken
    return 200, ThirdPartyOut.of(row)


@router.post("/reconciliation", response={200: Received, **ERRORS}, auth=Scope("third-parties:validate"))
@idempotent
def reconcile(request: HttpRequest, data: Delivery) -> tuple[int, dict]:  # noqa: ARG001
    """Send what Finance holds; the screen of SIAS shows what is not alike."""
    rows = [row.dict() | {"iban": bank.clean(row.iban)} for row in data.rows]
    wrong = [row["number"] for row in rows if bank.iban_problem(row["iban"])]
    if wrong:
        raise ProblemError(422, f"IBAN faux : {', '.join(wrong[:20])}. Rien n'est enregistré.", rows=wrong[:1000])
    at: datetime = data.at
    return 200, {"changed": services.receive(rows, at), "differences": len(services.differences())}


add("/third-parties", router)
