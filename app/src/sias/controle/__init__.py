"""Control of accesses: rights and their review, confidential files, exceptional accesses, the access log."""
