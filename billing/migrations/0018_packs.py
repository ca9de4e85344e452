from typing import Any

from django.db import migrations

PACKS = (
    ("starter", "Starter", 199, 100, 0),
    ("basic", "Basic", 799, 500, 50),
    ("popular", "Popular", 1_999, 1_500, 300),
    ("pro", "Pro", 3_999, 3_500, 1_000),
    ("enterprise", "Enterprise", 7_999, 8_000, 3_000),
)


def put_on_sale(apps: Any, schema_editor: Any) -> None:
    pack = apps.get_model("billing", "Pack")
    for position, (slug, name, price, credits_, bonus) in enumerate(PACKS):
        pack.objects.get_or_create(
            slug=slug,
            defaults={
                "name": name,
                "price_cents": price,
                "credits": credits_,
                "bonus_credits": bonus,
                "is_popular": slug == "popular",
                "position": position,
            },
        )


class Migration(migrations.Migration):
    """The packs that an installation begins with; staff change them in the admin."""

    dependencies = [("billing", "0017_purchases")]

    operations = [migrations.RunPython(put_on_sale, migrations.RunPython.noop)]
