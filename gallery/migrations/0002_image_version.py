"""Addresses of images that end when fewer may see them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("gallery", "0001_initial")]

    operations = [
        migrations.AddField("image", "version", models.PositiveIntegerField(db_default=0, default=0, editable=False)),
        migrations.AddField("image", "is_moving", models.BooleanField(db_default=False, default=False, editable=False)),
    ]
