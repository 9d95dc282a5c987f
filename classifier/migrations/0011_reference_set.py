import django.db.models.deletion
from django.db import migrations, models


def fill_labels(apps, schema_editor):
    """Read each version's categories from its confusion matrix, which has a row for every one of them."""
    versions = apps.get_model("classifier", "ModelVersion").objects
    for pk, metrics in versions.values_list("pk", "metrics"):
        if labels := metrics.get("confusion", {}).get("labels"):
            versions.filter(pk=pk).update(labels=labels)


class Migration(migrations.Migration):
    dependencies = [
        ("classifier", "0010_unusual_and_photos"),
    ]

    operations = [
        migrations.AddField(
            model_name="modelversion",
            name="gate",
            field=models.JSONField(
                default=dict, help_text="How it compared with the champion: see training.gate.", verbose_name="gate"
            ),
        ),
        migrations.AddField(
            model_name="modelversion",
            name="labels",
            field=models.JSONField(default=list, help_text="The slugs that it can suggest.", verbose_name="categories"),
        ),
        migrations.RunPython(fill_labels, migrations.RunPython.noop, elidable=True),
        migrations.CreateModel(
            name="ReferenceProduct",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "part",
                    models.CharField(
                        choices=[
                            ("replay", "Replay: training may use it"),
                            ("measure", "Measuring: only the gate reads it"),
                        ],
                        max_length=7,
                        verbose_name="part",
                    ),
                ),
                (
                    "origin",
                    models.CharField(
                        choices=[
                            ("starter", "Comes with Aisle"),
                            ("example", "Imported, or an accepted answer"),
                            ("stored", "A stored product without a reviewed answer"),
                        ],
                        max_length=7,
                        verbose_name="origin",
                    ),
                ),
                ("source", models.CharField(max_length=60, verbose_name="source")),
                ("external_id", models.CharField(max_length=120, verbose_name="id in the source")),
                ("title", models.TextField(blank=True, verbose_name="title")),
                ("description", models.TextField(blank=True, verbose_name="description")),
                ("photo", models.CharField(blank=True, max_length=120, verbose_name="photo")),
                ("photo_digest", models.CharField(blank=True, editable=False, max_length=64)),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="added")),
                (
                    "category",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="classifier.category",
                        verbose_name="category",
                    ),
                ),
                (
                    "prediction",
                    models.ForeignKey(
                        blank=True,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="classifier.prediction",
                    ),
                ),
            ],
            options={
                "verbose_name": "reference product",
                "verbose_name_plural": "reference products",
                "ordering": ["pk"],
            },
        ),
        migrations.CreateModel(
            name="ReferenceAnswer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("first_choice", models.CharField(help_text="The slug of the likeliest category.", max_length=80)),
                ("confidence", models.FloatField(help_text="The probability of the first choice.")),
                (
                    "probability",
                    models.FloatField(help_text="The probability of the product's own category.", null=True),
                ),
                (
                    "rank",
                    models.PositiveIntegerField(help_text="How many categories are likelier than its own.", null=True),
                ),
                ("offer", models.CharField(help_text="A hash of the categories that were active.", max_length=16)),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="reference_answers",
                        to="classifier.modelversion",
                    ),
                ),
                (
                    "product",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="answers",
                        to="classifier.referenceproduct",
                    ),
                ),
            ],
            options={
                "verbose_name": "answer for a reference product",
                "verbose_name_plural": "answers for reference products",
            },
        ),
        migrations.AddConstraint(
            model_name="referenceproduct",
            constraint=models.UniqueConstraint(
                fields=("origin", "source", "external_id"), name="reference_product_is_added_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="referenceproduct",
            constraint=models.CheckConstraint(
                condition=models.Q(("description", ""), ("photo", ""), ("title", ""), _negated=True),
                name="reference_product_has_an_input",
            ),
        ),
        migrations.AddConstraint(
            model_name="referenceanswer",
            constraint=models.UniqueConstraint(fields=("version", "product"), name="one_reference_answer_per_version"),
        ),
    ]
