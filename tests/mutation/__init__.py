"""Edits of the minds that somebody could make by mistake: each must be caught. See docs/simulation.md."""
