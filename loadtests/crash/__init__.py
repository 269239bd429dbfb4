"""Kills routers under load, again and again, and holds the ledger against what clients were answered."""
