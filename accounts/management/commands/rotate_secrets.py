"""`manage.py rotate_secrets`: encrypt what is kept encrypted under the newest SECRET_KEY (docs/rotation.md)."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts import secret_rotation


class Command(BaseCommand):
    help = "Encrypt upstream keys and webhook secrets anew, under SECRET_KEY. May run twice."

    def handle(self, *args: Any, **options: Any) -> None:
        report = secret_rotation.rotate_all()
        self.stdout.write(f"{report.rotated} secrets are under the newest key.")
        if report.unreadable:
            raise CommandError("No key reads " + ", ".join(report.unreadable))
