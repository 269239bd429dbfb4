"""How exactly limits are kept: `python -m loadtests.limits`."""
