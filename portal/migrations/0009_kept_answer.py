import django.db.models.deletion
from django.db import migrations, models

# Until now an edit removed the category: where a product has one, its newest prediction is answered.
FILL_ANSWERS = """
    UPDATE portal_product AS product SET answer_id = answer.id
    FROM feedback_feedback AS answer WHERE answer.prediction_id = product.prediction_id
"""


class Migration(migrations.Migration):
    dependencies = [
        ("feedback", "0019_notification_names"),
        ("portal", "0008_token_details"),
    ]

    operations = [
        migrations.AddField(
            model_name="product",
            name="answer",
            field=models.OneToOneField(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="product",
                to="feedback.feedback",
                verbose_name="newest answer",
            ),
        ),
        migrations.RunSQL(FILL_ANSWERS, migrations.RunSQL.noop),
    ]
