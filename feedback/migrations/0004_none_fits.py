from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # beside what serves: the table is large
    dependencies = [
        ("feedback", "0003_review"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="feedback",
            index=models.Index(
                condition=models.Q(("category", None)), fields=["seller", "prediction"], name="feedback_none_fits"
            ),
        ),
    ]
