"""Limited cross-domain information: which domain follows a person, never why."""
