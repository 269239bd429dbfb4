"""Limits that several machines share: shares of them, leased from Redis."""
