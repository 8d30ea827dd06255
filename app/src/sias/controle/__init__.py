"""Control of accesses: the table of rights, assignments and their review, exceptional accesses, the access log."""
