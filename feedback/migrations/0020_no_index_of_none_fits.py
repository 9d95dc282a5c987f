from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    atomic = False  # beside what serves: the table is large
    dependencies = [("feedback", "0019_notification_names")]

    operations = [RemoveIndexConcurrently(model_name="feedback", name="feedback_none_fits")]
