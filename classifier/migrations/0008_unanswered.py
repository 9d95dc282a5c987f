from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # beside what serves: the table is large
    dependencies = [
        ("classifier", "0007_history"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="prediction",
            index=models.Index(
                condition=models.Q(("state__in", ["queued", "running", "failed"])),
                fields=["seller", "state", "id"],
                name="prediction_unanswered",
            ),
        ),
    ]
