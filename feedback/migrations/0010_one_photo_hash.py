from django.db import migrations

HASHES = """
UPDATE classifier_prediction AS prediction SET photo_hash = product.photo_hash
FROM feedback_caseproduct AS product
WHERE product.prediction_id = prediction.id AND product.photo_hash IS NOT NULL AND prediction.photo_hash IS NULL
"""


class Migration(migrations.Migration):
    """A photograph's hash is the prediction's; those of cases' products move there."""

    dependencies = [("classifier", "0009_unusual"), ("feedback", "0009_erasures")]

    operations = [
        migrations.RunSQL(HASHES, migrations.RunSQL.noop),
        migrations.RemoveField(model_name="caseproduct", name="photo_hash"),
    ]
