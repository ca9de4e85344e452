from typing import Any

from django.db import migrations

PLANS = (("plus", "Plus", 900, 1_000), ("team", "Team", 4_900, 5_800), ("scale", "Scale", 19_900, 24_500))


def put_on_sale(apps: Any, schema_editor: Any) -> None:
    plan = apps.get_model("billing", "Plan")
    for position, (slug, name, price, monthly) in enumerate(PLANS):
        plan.objects.get_or_create(
            slug=slug,
            defaults={"name": name, "price_cents": price, "monthly_credits": monthly, "position": position},
        )


class Migration(migrations.Migration):
    """The plans that an installation begins with; staff change them in the admin."""

    dependencies = [("billing", "0019_plans")]

    operations = [migrations.RunPython(put_on_sale, migrations.RunPython.noop)]
