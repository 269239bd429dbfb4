"""Bytes: connections in and out, their framing, their deadlines. It knows HTTP/1.1 and permits; no model, no rule.

`fiber.py` is how a request waits; `inbound.py` and `upstream.py` are the two ends of the wire.
"""
