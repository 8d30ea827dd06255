"""The primary's pg_wal has no place left: PostgreSQL cannot write another byte."""

from __future__ import annotations

from siasops.drill.means.small_disk import SmallDisk


class WalFull(SmallDisk):
    """See the module."""

    name = "wal-full"
    title = "no place left in the primary's pg_wal"
    expected = (
        "PostgreSQL stops rather than acknowledge what it cannot write; the standby is promoted. When there is room "
        "again the former primary follows."
    )
    spares = "the disk of the machine, and the standby"
    folder = "{data}/pg_wal"
    spare_mb = 96
