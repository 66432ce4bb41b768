"""Ports to the kernel, and their adapters."""
