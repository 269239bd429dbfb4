"""Picks one of the candidates that placement and health left over. Pure: load is what the candidates say it is."""
