"""Synthetic patients, devices and safety reports, and the publisher that sends them to a hub.

Generation is pure and seeded: the same arguments give the same bytes, and time is an argument. Only `publisher` knows
a clock and a network. Nothing of the rest of the project is imported here.
"""
