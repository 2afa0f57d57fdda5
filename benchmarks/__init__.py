"""What `loops_async` costs, next to what one would write without it: `python -m benchmarks`.

Each measurement answers one question, runs all contestants in turn within the same minutes, and reports medians and
the ratios within a turn, since the machine may be noisy. Everything happens on loopback, against `server.py`, which
has a process and, where there are two, a core of its own.
"""
