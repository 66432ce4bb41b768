"""Benchmarks: each figure beside a baseline of the same run, as JSON. Never part of the tests."""
