"""Says whether another attempt is right. Pure: it counts, and sends nothing."""
