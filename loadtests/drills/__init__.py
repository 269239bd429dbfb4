"""Drills: each bar of reliability, measured from outside on real processes.

A drill starts emulated clouds and the router as processes of their own, sends requests at a constant rate whatever
the answers do (open loop), breaks something, and compares what clients, clouds, access log, metrics and decision log
say. Every request carries a marker, so that a cloud is an independent witness of what reached it. Rates are small
(20 to 400 requests a second in all): the router, the clouds and the load share one small machine.
"""
