"""Judges deployments by what their answers said. Pure: it is told the time, and opens no connection."""
