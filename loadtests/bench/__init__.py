"""The saturation benchmark: CPU, latency and memory of a proxy, beside nginx in the same rounds.

The proxy under test has one core for itself; the upstream and the load share the other. CPU is the user and system
time of the proxy's whole process tree, so a helper process cannot hide any. A round takes every subject in turn, in
an order that rotates, and what is compared are ratios within a round: a slow minute of the machine slows both.
"""
