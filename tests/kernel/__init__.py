"""What the kernel's cluster tree answers: one suite, run on every adapter."""
