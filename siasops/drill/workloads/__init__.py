"""Workloads of a drill: processes of their own that use the platform from outside both rooms.

Each takes its description as one line of JSON on standard input (secrets included, which therefore never stand in a
process's arguments) and works until that input is closed, so that none outlives the drill that started it.
"""
