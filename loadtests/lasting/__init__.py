"""What keeps a router up for years, measured on real processes: kills, reloads, upgrades, hostile clients, and time.

One file a bar. They stand on the drills: its clouds, its load, its bars and its results.
"""
