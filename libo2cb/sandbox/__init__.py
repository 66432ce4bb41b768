"""The embedded default: a whole cluster on one machine, with real daemons and without root."""
