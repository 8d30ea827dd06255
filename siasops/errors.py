"""Errors that a user can act on, and the exit codes of every `sias` command."""

from __future__ import annotations

HELD = 0
"""What was asked holds."""
VERDICT_FAILED = 1
"""The command ran and its verdict is negative: a check failed, a drill lost a write."""
USAGE = 2
"""The command line was wrong (click's own code)."""
COULD_NOT_RUN = 3
"""The command could not do its work: a host does not answer, a file is missing."""


class UserError(Exception):
    """Something the user can mend; printed in one sentence, never with a traceback.

    Args:
        message: what was found, on which host, and what to do.
        exit_code: one of this module's codes.
    """

    def __init__(self, message: str, exit_code: int = COULD_NOT_RUN) -> None:
        super().__init__(message)
        self.exit_code = exit_code
