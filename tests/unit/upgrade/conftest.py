"""The lab of tests/unit/cluster."""

from __future__ import annotations

from tests.unit.cluster.conftest import lab, view

__all__ = ["lab", "view"]
