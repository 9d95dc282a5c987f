import django.db.models.deletion
from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    """Rename a model and two fields; the table, the columns and the index stay, so that no SQL runs."""

    dependencies = [("classifier", "0013_help_texts")]

    operations = [
        migrations.AlterModelTable("familiar", "classifier_familiar"),
        migrations.RenameModel("Familiar", "DistributionDetector"),
        migrations.AlterModelOptions(
            "distributiondetector",
            {
                "default_permissions": (),
                "permissions": [
                    ("add_familiar", "Can add out-of-distribution detectors"),
                    ("change_familiar", "Can change out-of-distribution detectors"),
                    ("delete_familiar", "Can delete out-of-distribution detectors"),
                    ("view_familiar", "Can view out-of-distribution detectors"),
                ],
                "verbose_name": "out-of-distribution detector",
                "verbose_name_plural": "out-of-distribution detectors",
            },
        ),
        migrations.AlterField(
            "distributiondetector", "created_at", models.DateTimeField(auto_now_add=True, verbose_name="fitted")
        ),
        migrations.AlterField(
            "distributiondetector",
            "figures",
            models.JSONField(
                default=dict,
                help_text="Rows that it was fitted to, and the share of them that it flags.",
                verbose_name="figures",
            ),
        ),
        migrations.AlterField(
            "distributiondetector",
            "version",
            models.OneToOneField(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="detector",
                to="classifier.modelversion",
                verbose_name="version",
            ),
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveIndex("prediction", "prediction_due"),
                migrations.AlterField(
                    "prediction",
                    "due_at",
                    models.DateTimeField(
                        db_column="due_at",
                        db_default=Now(),
                        help_text="When a worker may claim the row.",
                        verbose_name="available",
                    ),
                ),
                migrations.RenameField("prediction", "due_at", "available_at"),
                migrations.AlterField(
                    "prediction", "lease", models.UUIDField(db_column="lease", editable=False, null=True)
                ),
                migrations.RenameField("prediction", "lease", "lease_token"),
                migrations.AddIndex(
                    "prediction",
                    models.Index(
                        fields=["priority", "available_at"],
                        name="prediction_due",
                        condition=models.Q(state__in=["queued", "running"]),
                    ),
                ),
            ]
        ),
    ]
