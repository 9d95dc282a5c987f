from django.db import migrations, models

# Not AddIndexConcurrently, which can't be told to pass over an index that is there already.
INDEXES = {
    "prediction_photo_hash": ("(photo_hash) WHERE photo_hash IS NOT NULL", {
        "fields": ["photo_hash"], "condition": models.Q(photo_hash__isnull=False),
    }),
    "prediction_unusual": ("(created_at DESC) WHERE unusual <> ''", {
        "fields": ["-created_at"], "condition": ~models.Q(unusual=""),
    }),
}  # fmt: skip


class Migration(migrations.Migration):
    atomic = False  # beside what serves: the table is large
    dependencies = [("classifier", "0009_unusual")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.AddIndex("prediction", models.Index(name=name, **options))],
            database_operations=[
                migrations.RunSQL(
                    f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON classifier_prediction {on}",
                    f"DROP INDEX CONCURRENTLY IF EXISTS {name}",
                )
            ],
        )
        for name, (on, options) in INDEXES.items()
    ]
