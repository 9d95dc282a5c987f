from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models

COLUMNS = ["category", "prediction", "answer"]


class Migration(migrations.Migration):
    atomic = False  # beside what serves: the table is large
    dependencies = [("portal", "0009_kept_answer")]

    operations = [
        RemoveIndexConcurrently(model_name="product", name="product_list_newest"),
        AddIndexConcurrently(
            model_name="product",
            index=models.Index(
                fields=["seller", "-created_at", "id"], include=COLUMNS, name="product_list_newest"
            ),
        ),
        RemoveIndexConcurrently(model_name="product", name="product_list_by_title"),
        AddIndexConcurrently(
            model_name="product",
            index=models.Index(fields=["seller", "title", "id"], include=COLUMNS, name="product_list_by_title"),
        ),
    ]
