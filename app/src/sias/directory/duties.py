"""The pass of the night, those that were asked for, and a look at who left every quarter of an hour."""

from sias.directory import passes
from sias.directory.models import Run
from sias.platform.duties import duty


@duty("annuaire", every=15)
def pass_over_the_directory() -> tuple[str, bool]:
    """Make the pass that is due."""
    if not passes.enabled():
        return "", False
    run = passes.due()
    if run is None:
        return "", False
    passes.perform(run)
    quiet = run.scope == Run.Scope.DEPARTURES and run.state == Run.State.APPLIED and not run.counts["prives"]
    return ("" if quiet else f"{run} : {run.get_state_display()} {run.counts} {run.problem}".strip()[:500]), False
