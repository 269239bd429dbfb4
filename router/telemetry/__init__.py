"""Metrics and the access log. It is handed values that are finished, and decides nothing about a request."""
