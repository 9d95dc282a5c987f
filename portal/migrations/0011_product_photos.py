import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models
from django.db.models.constraints import Deferrable


class Migration(migrations.Migration):
    """Let rows of photos belong to products. Web processes of the version before can still add and delete rows."""

    dependencies = [("portal", "0010_answer_in_list_indexes")]

    operations = [
        migrations.AlterModelTable("photodraft", "portal_photodraft"),
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
    ]
