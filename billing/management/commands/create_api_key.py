"""Makes an API key, and its organization if that is missing."""

from typing import Any
from uuid import uuid4

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_slug
from django.db import transaction

from accounts import keys, organizations
from accounts.models import Organization
from billing import ledger, money


class Command(BaseCommand):
    help = "Make an API key; the organization is made if it is missing. Prints only the key on stdout."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--org", required=True, metavar="SLUG")
        parser.add_argument("--name", required=True)
        parser.add_argument("--credits", default="", metavar="N", help="credits to grant, such as 250 or 12.5")
        parser.add_argument("--scopes", nargs="*", default=[], help="what the key may do; none: everything")

    def handle(self, *args: Any, **options: Any) -> None:
        slug = options["org"]
        try:
            validate_slug(slug)
            with transaction.atomic():
                organization = Organization.objects.filter(slug=slug).first()
                if organization is None:
                    organization = organizations.create(name=slug, slug=slug)
                ledger.account_of(organization)
                if options["credits"]:
                    ledger.grant(
                        organization=organization,
                        amount=money.nanos_from_credits(options["credits"]),
                        reason=f"with the key {options['name']}",
                        idempotency_key=f"grant:{uuid4()}",
                    )
                scopes = [scope for given in options["scopes"] for scope in given.split(",") if scope]
                issued = keys.issue(organization=organization, name=options["name"], scopes=scopes)
        except ValidationError:
            raise CommandError(f"{slug!r} is not a slug: letters, digits, hyphens and underscores.") from None
        except (money.InvalidAmount, ledger.InvalidTransfer):
            raise CommandError(f"{options['credits']!r} is not a positive amount of credits.") from None
        except keys.InvalidKey as error:
            raise CommandError(f"The key cannot be made: {error}") from None
        self.stdout.write(issued.secret)
