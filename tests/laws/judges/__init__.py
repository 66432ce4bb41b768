"""The judges: one file for each block of laws, one class for each law."""
