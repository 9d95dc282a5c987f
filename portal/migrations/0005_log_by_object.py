from django.db import migrations


class Migration(migrations.Migration):
    """An erasure looks up what the admin's log says of each row; Django's own table has no index for that."""

    atomic = False  # beside what serves: the table may be large
    dependencies = [("portal", "0004_privacy"), ("admin", "0003_logentry_add_action_flag_choices")]

    operations = [
        migrations.RunSQL(
            "CREATE INDEX CONCURRENTLY admin_log_by_object ON django_admin_log (object_id, content_type_id)",
            "DROP INDEX CONCURRENTLY admin_log_by_object",
        ),
    ]
