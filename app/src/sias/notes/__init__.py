"""Notes: what was three objects (notes, alerts, interviews) is one, with a type and a visibility."""
