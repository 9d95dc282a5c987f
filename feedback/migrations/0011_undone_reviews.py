from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # beside what serves: the table is large
    dependencies = [("feedback", "0010_one_photo_hash")]

    operations = [
        AddIndexConcurrently(
            model_name="review",
            index=models.Index(
                condition=models.Q(("undone_at__isnull", False)), fields=["undone_at"], name="review_undone"
            ),
        ),
    ]
