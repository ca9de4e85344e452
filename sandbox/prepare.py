"""`python -m sandbox.prepare` brings the database, prices, demo and static files up to date, in one process."""

import os

import django
from django.conf import settings
from django.core.management import call_command


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ["DB_POOL_SIZE"] = "0"
    django.setup()
    call_command("migrate", verbosity=1, interactive=False)
    call_command("load_prices")
    from sandbox import demo  # noqa: PLC0415 - models exist only after the setup

    demo.from_environment()
    if not settings.DEBUG:
        call_command("collectstatic", verbosity=0, interactive=False)


if __name__ == "__main__":
    main()
