"""What every daemon shell needs: a record server, pid file, signals, logs, the ring for DUMP."""
