from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.models import Q

COLUMNS = ["category", "prediction", "answer"]


class Migration(migrations.Migration):
    atomic = False  # beside what serves: the table is large
    dependencies = [("portal", "0013_trash")]

    operations = [
        AddIndexConcurrently(
            model_name="product",
            index=models.Index(
                fields=["seller", "-deleted_at", "id"], condition=Q(deleted_at__isnull=False), name="product_trash"
            ),
        ),
        AddIndexConcurrently(
            model_name="product",
            index=models.Index(
                fields=["deleted_at"], condition=Q(deleted_at__isnull=False), name="product_trash_expires"
            ),
        ),
        RemoveIndexConcurrently(model_name="product", name="product_list_newest"),
        AddIndexConcurrently(
            model_name="product",
            index=models.Index(
                fields=["seller", "-created_at", "id"],
                include=COLUMNS,
                condition=Q(deleted_at=None),
                name="product_list_newest",
            ),
        ),
        RemoveIndexConcurrently(model_name="product", name="product_list_by_title"),
        AddIndexConcurrently(
            model_name="product",
            index=models.Index(
                fields=["seller", "title", "id"],
                include=COLUMNS,
                condition=Q(deleted_at=None),
                name="product_list_by_title",
            ),
        ),
    ]
