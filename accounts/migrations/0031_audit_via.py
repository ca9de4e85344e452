from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0030_closing")]

    operations = [
        migrations.AddField(
            model_name="auditentry",
            name="via",
            field=models.CharField(blank=True, db_default="", default="", max_length=80),
        ),
    ]
