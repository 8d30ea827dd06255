"""Load tests: an open arrival rate, latency from the intended start, a verdict that says when it has none.

scenario   what is offered when, read from loadtests/scenarios/
schedule   every arrival of a run, decided before it starts
run        Locust as processes (master and workers), the platform's resources beside them
samples    what the workers logged
verdict    whether the run counts, whether objectives held, which resource was the limit
compare    a run against its baseline of several
report     HTML, Markdown, JSON

The journeys themselves are Locust's and stand in loadtests/, which this package starts and never imports.
"""
