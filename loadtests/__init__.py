"""Load on the router: the saturation benchmark and what it is compared with."""
