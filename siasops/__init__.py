"""Operations of SIAS: what acts over time on the two rooms."""
