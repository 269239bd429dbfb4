"""A fleet on a fake clock: real policies, made-up clouds."""
