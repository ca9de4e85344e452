"""The metered hot path of `/v1`: a bare ASGI application that imports no Django.

Everything it needs arrives as an argument (`app.Gateway`): a keyring, a catalogue, a limiter, a teller and an upstream
client. `proxy/runtime.py` builds them from Django's settings and tables.
"""
