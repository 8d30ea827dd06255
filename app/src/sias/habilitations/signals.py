"""What other modules may listen to."""

from django.dispatch import Signal

# Sent inside the transaction that opens the access, with `access` (a BreakGlass): whoever examines must hear of it.
exceptional_access_opened = Signal()
