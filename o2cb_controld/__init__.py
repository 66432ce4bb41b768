"""Which nodes should exist in the kernel: o2cb_controld, a pure mind in a thin shell."""
