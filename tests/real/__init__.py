"""Tests on real programs: cluster engines and whatever else this machine can run for real."""
