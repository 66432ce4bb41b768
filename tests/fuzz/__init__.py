"""Byte scripts against the clients' socket: kept ones in everyday runs, new ones by `python -m tests.fuzz`."""
