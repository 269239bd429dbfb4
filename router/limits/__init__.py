"""Says whether a request may run now. Pure: it counts what it is told."""
