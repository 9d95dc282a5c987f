from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("training", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="trainingrun",
            name="ends_test",
            field=models.BooleanField(
                default=False,
                help_text="Else what passes while a test runs is registered only.",
                verbose_name="ends a test",
            ),
        ),
    ]
