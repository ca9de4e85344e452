"""`python -m sandbox run` starts the whole product here; `manage …` runs a management command against it."""

import argparse
import os
import sys

from sandbox.processes import SandboxError
from sandbox.supervisor import PYTHON, ROOT, data_directory, environment_of, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="start everything (PORT, HOST, DATA_DIR, DATABASE_URL, REDIS_URL, VERBOSE)")
    one.add_argument("--follow-parent", action="store_true", help="stop when the process that started this dies")
    commands.add_parser("env", help="print the addresses of the running installation, for eval in a shell")
    one = commands.add_parser("manage", help="run manage.py against the running installation")
    one.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.command == "run":
        return run(follow_parent=options.follow_parent)
    try:
        env = environment_of(data_directory())
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    if options.command == "env":
        for name in (
            "DATABASE_URL",
            "REDIS_URL",
            "SECRET_KEY",
            "SITE_URL",
            "ALLOWED_HOSTS",
            "MEDIA_ROOT",
            "STATIC_ROOT",
        ):
            print(f"export {name}='{env[name]}'")
        return 0
    os.execve(PYTHON, [PYTHON, str(ROOT / "manage.py"), *options.arguments], {**env, **os.environ})


if __name__ == "__main__":
    sys.exit(main())
