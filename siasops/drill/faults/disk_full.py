"""The primary's disk is full: tables cannot grow, PostgreSQL writes no WAL and cannot start again, Patroni keeps no state."""

from __future__ import annotations

from siasops.drill.means.small_disk import SmallDisk


class DiskFull(SmallDisk):
    """See the module."""

    name = "disk-full"
    title = "no place left on the disk of the primary's data"
    expected = (
        "Statements that need room are refused, then PostgreSQL stops, and cannot be started again; the standby is "
        "promoted. When there is room again the former primary follows."
    )
    spares = "the disk of the machine, and the standby"
    folder = "{data}"
    spare_mb = 160
