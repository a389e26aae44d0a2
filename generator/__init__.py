"""Synthetic patients and devices, and the publisher that sends what they say to a hub.

Generation is pure and seeded: the same arguments give the same bytes, and time is an argument. Only `publisher` knows
a clock and a network. Nothing of the rest of the project is imported here.
"""
