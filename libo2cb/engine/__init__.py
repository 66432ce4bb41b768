"""Ports to the cluster engine, their adapters, and the pure model behind the sandbox and the simulation."""
