"""`SANDBOX_KEY=… python -m sandbox.provider --port 8700`: the simulated provider as a process of its own."""

import argparse
import os
import sys

from sandbox.provider.app import Provider, server


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.provider", description=__doc__)
    parser.add_argument("--port", type=int, default=8700)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--first-delay-ms", type=int, default=150, help="before the first word")
    parser.add_argument("--word-delay-ms", type=int, default=18, help="between words of a stream")
    options = parser.parse_args()
    key = os.environ.get("SANDBOX_KEY")
    if not key:
        sys.exit("SANDBOX_KEY: is not set")
    provider = Provider(key, first_delay_s=options.first_delay_ms / 1000, word_delay_s=options.word_delay_ms / 1000)
    server(provider, options.port, options.host).run()


if __name__ == "__main__":
    main()
