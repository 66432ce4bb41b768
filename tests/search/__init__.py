"""Exhaustive search of small worlds with the real minds of both daemons: `python -m tests.search`."""
