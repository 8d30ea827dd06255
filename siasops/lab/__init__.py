"""The lab: its machines, its network, its package cache, its faults of power."""
