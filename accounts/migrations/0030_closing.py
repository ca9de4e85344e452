from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0023_requested_key")]

    operations = [
        migrations.AddField(
            model_name="organization",
            name="deletes_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="organization",
            name="status",
            field=models.CharField(
                choices=[("active", "Active"), ("frozen", "Frozen"), ("closing", "Closing"), ("deleted", "Deleted")],
                default="active",
                max_length=10,
            ),
        ),
    ]
