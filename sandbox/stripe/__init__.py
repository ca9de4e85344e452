"""A simulated Stripe: the part of its API that Tuppence calls, a checkout page, and really signed webhooks.

`bank.py` is what Stripe remembers, `webhooks.py` how it tells, `pages.py` what people see, `app.py` the server.
"""
