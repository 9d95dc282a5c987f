from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("classifier", "0011_reference_set"),
    ]

    operations = [
        migrations.AddField(
            model_name="ensemblerule",
            name="carried_over_from",
            field=models.CharField(
                blank=True,
                help_text="The pair whose rule serves this one until a rule of its own can be fitted.",
                max_length=140,
                verbose_name="carried over from",
            ),
        ),
    ]
