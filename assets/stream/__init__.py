"""The micro-batch engine shared by all streams: contract to bronze, silver, quarantine and alerts.

Nothing here names a domain: a stream is a folder with a contract, a clean function and rules.
"""
