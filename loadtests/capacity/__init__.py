"""How many routers a load needs, reckoned from what was measured."""
