from django.db import migrations, models


class Migration(migrations.Migration):
    """A correction says whether the prices of lists were in it; those of earlier releases say no."""

    dependencies = [("billing", "0041_settle_org_label")]

    operations = [
        migrations.AddField(
            model_name="rerating",
            name="follows_lists",
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
    ]
