"""The life of a request. `lifecycle.py` is the first file to read; what a phase does in detail stands beside it."""
