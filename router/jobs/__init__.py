"""Loops that outlive a request."""
