"""The cluster as seen from outside: one view, go / no-go checks made from it, and the guarded switchover."""
