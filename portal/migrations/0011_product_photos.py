import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models
from django.db.models.constraints import Deferrable


# Processes of the version before work on while a new one is rolled out. They know the table by its former name, and
# delete a day later, with its files, what has a row there: they must see the drafts only.
ADD_VIEW = """
    CREATE VIEW portal_photodraft AS
    SELECT id, seller_id, large, small, created_at FROM portal_productphoto WHERE product_id IS NULL
"""


class Migration(migrations.Migration):
    """Let rows of photos belong to products. A later version can drop the view that stands for the former table."""

    dependencies = [("portal", "0010_answer_in_list_indexes")]

    operations = [
        migrations.RenameModel("PhotoDraft", "ProductPhoto"),
        migrations.AlterModelOptions("productphoto", {"ordering": ["position"]}),
        migrations.AddField(
            "productphoto",
            "product",
            models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="photos",
                to="portal.product",
            ),
        ),
        migrations.AddField("productphoto", "position", models.PositiveSmallIntegerField(db_default=0, default=0)),
        migrations.AlterField(
            "productphoto", "created_at", models.DateTimeField(default=django.utils.timezone.now)
        ),
        migrations.AlterField(
            "productphoto",
            "seller",
            models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="photos", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddIndex(
            "productphoto",
            models.Index(condition=models.Q(product=None), fields=["created_at"], name="photo_drafts_by_age"),
        ),
        migrations.AddIndex("productphoto", models.Index(fields=["large"], name="photo_by_large_copy")),
        migrations.AddConstraint(
            "productphoto",
            models.UniqueConstraint(
                deferrable=Deferrable.DEFERRED, fields=("product", "position"), name="one_photo_at_a_position"
            ),
        ),
        migrations.RunSQL(ADD_VIEW, "DROP VIEW portal_photodraft"),
    ]
