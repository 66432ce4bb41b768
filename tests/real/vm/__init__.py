"""A real kernel: Debian's, in QEMU. See `lab.py` for how to use it, docs/kernel.md for what was measured with it."""
