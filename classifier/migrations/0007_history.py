from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("classifier", "0006_variants")]

    operations = [
        migrations.AddIndex(
            model_name="prediction",
            index=models.Index(
                condition=models.Q(("state", "failed")), fields=["-created_at"], name="prediction_failed"
            ),
        ),
        migrations.AddIndex(
            model_name="prediction",
            index=models.Index(
                condition=models.Q(("state__in", ["done", "failed"])),
                fields=["-finished_at"],
                name="prediction_finished",
            ),
        ),
    ]
