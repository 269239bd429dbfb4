"""Composes the settings of all rooms into one checked, frozen snapshot, or names every fault of the file.

Kept empty on purpose: the rooms above import `router.config.snapshot` without paying for pydantic and YAML.
"""
