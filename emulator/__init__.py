"""A local Event Hubs: a stand-alone AMQP 1.0 server with a durable log, for the unmodified Azure SDK.

It uses the standard library only and imports nothing of the rest of the project, which in turn knows it
only through its connection string.
"""
