"""Rename Feedback.inclusion to inclusion_probability; the column keeps its name."""

from django.db import migrations, models

HELP = "The probability of being drawn for the random share; empty for answers that were chosen for a reason."


class Migration(migrations.Migration):
    dependencies = [("feedback", "0015_help_texts")]

    operations = [
        migrations.AlterField(
            "feedback",
            "inclusion",
            models.FloatField(
                db_column="inclusion", editable=False, help_text=HELP, null=True, verbose_name="inclusion probability"
            ),
        ),
        migrations.RenameField("feedback", "inclusion", "inclusion_probability"),
    ]
