"""`STRIPE_SECRET_KEY=… STRIPE_WEBHOOK_SECRET=… python -m sandbox.stripe --port 8710`: a process of its own."""

import argparse
import os
import sys
from pathlib import Path

from sandbox.stripe.app import Stripe, server


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.stripe", description=__doc__)
    parser.add_argument("--port", type=int, default=8710)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--endpoint", required=True, help="where events go")
    parser.add_argument("--base-url", required=True, help="where people see the checkout")
    parser.add_argument("--state", type=Path, default=None, help="the file that survives a restart")
    options = parser.parse_args()
    key, secret = os.environ.get("STRIPE_SECRET_KEY"), os.environ.get("STRIPE_WEBHOOK_SECRET")
    if not key or not secret:
        sys.exit("STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET must be set")
    stripe = Stripe(key=key, secret=secret, endpoint=options.endpoint, base_url=options.base_url, path=options.state)
    server(stripe, options.port, options.host).run()


if __name__ == "__main__":
    main()
