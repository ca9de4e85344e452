from django.db import migrations, models
from django.db.models.functions import Now

GUARD = """
CREATE FUNCTION billing_price_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a price is never changed: set a new one' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER billing_price_immutable BEFORE UPDATE OR DELETE ON billing_price
    FOR EACH ROW EXECUTE FUNCTION billing_price_refuse_change();

CREATE FUNCTION billing_price_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('tuppence_catalog', '');
    RETURN NULL;
END $$;
CREATE TRIGGER billing_price_notify AFTER INSERT ON billing_price
    FOR EACH STATEMENT EXECUTE FUNCTION billing_price_notify();
"""
UNGUARD = """
DROP TRIGGER billing_price_notify ON billing_price;
DROP TRIGGER billing_price_immutable ON billing_price;
DROP FUNCTION billing_price_notify();
DROP FUNCTION billing_price_refuse_change();
"""


class Migration(migrations.Migration):
    """Prices with effective dates, which cannot be changed."""

    dependencies = [("billing", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Price",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("model", models.TextField()),
                (
                    "side",
                    models.CharField(
                        choices=[("sell", "What we charge"), ("cost", "What we pay")], default="sell", max_length=4
                    ),
                ),
                ("provider", models.TextField(blank=True, default="")),
                ("effective_at", models.DateTimeField()),
                ("rates", models.JSONField()),
                ("source", models.TextField(blank=True, default="")),
                (
                    "origin",
                    models.CharField(
                        choices=[
                            ("catalogue", "Price catalogue"),
                            ("file", "Operator's price file"),
                            ("environment", "MODEL_PRICING_JSON"),
                            ("staff", "Staff"),
                        ],
                        default="staff",
                        max_length=11,
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.UniqueConstraint(fields=("model", "side", "provider", "effective_at"), name="price_once"),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("provider", ""), ("side", "sell")),
                    models.Q(("side", "cost"), models.Q(("provider", ""), _negated=True)),
                    _connector="OR",
                ),
                name="price_provider_on_cost",
            ),
        ),
        migrations.RunSQL(GUARD, UNGUARD),
    ]
