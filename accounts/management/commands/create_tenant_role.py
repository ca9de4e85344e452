"""Makes the role of PostgreSQL that sees one organization at a time."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import ProgrammingError

from accounts import tenancy


class Command(BaseCommand):
    help = f"Make the role {tenancy.ROLE}, or renew its grants. Then set TENANT_ROLE=1."

    def handle(self, *args: Any, **options: Any) -> None:
        tenancy.secure()
        try:
            tenancy.create_role()
        except ProgrammingError as error:
            raise CommandError(f"The role cannot be made: {error}".strip()) from None
        self.stdout.write(f"{tenancy.ROLE} is ready.")
