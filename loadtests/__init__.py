"""Journeys of real profiles against SIAS. `sias load run` starts them; see siasops/load and the scenarios beside this file."""
