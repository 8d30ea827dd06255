"""The room guard: hands the primary's lease on in about a second when its host or its room is dead.

Plain Patroni waits until the lease of a dead primary ends, 20 s at least. The guard (`witness`) ends it earlier, when
two places no longer hear the primary and a synchronous standby has cut it off (`agent`). ARGUMENT.md says why no
acknowledged write can be lost by that. When the guard is down, plain Patroni remains.

What runs on hosts uses the standard library and Debian's prometheus_client alone.
"""
