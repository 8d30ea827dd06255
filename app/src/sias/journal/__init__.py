"""Access log: who consulted or searched what, when, why. It only grows, and every entry is chained to the one before."""
