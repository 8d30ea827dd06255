"""Reception: contacts, appointments, referrals, and the timeline of a person."""
