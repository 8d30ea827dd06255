"""Drills: a fault is injected under load, everything is healed and read back, and what was promised is compared.

registry     which drills exist
run          the protocol: preflight, baseline, inject, hold, heal, converge, final read, check, report
faults/      one small file per fault
workloads/   separate processes that use the platform from outside both rooms and log every operation
history      what those logs say
checker      what must hold, as pure functions
report       Markdown, HTML with a timeline, JSON
"""
