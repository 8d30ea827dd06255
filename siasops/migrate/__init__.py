"""PostgreSQL from one major version to the next without a cut: a green cluster beside the blue one, proofs, gates, cutover."""
