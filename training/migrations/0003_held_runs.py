from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("training", "0002_ends_test"),
    ]

    operations = [
        migrations.AlterField(
            model_name="trainingrun",
            name="state",
            field=models.CharField(
                choices=[
                    ("queued", "Queued"),
                    ("running", "Running"),
                    ("deployed", "Deployed"),
                    ("registered", "Registered, not deployed"),
                    ("held", "Held back: the champion stays"),
                    ("rejected", "Rejected: the champion stays"),
                    ("failed", "Failed"),
                    ("cancelled", "Cancelled"),
                ],
                default="queued",
                max_length=10,
                verbose_name="state",
            ),
        ),
    ]
