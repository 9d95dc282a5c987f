from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # beside what serves: the table is large
    dependencies = [("portal", "0001_initial")]

    operations = [
        AddIndexConcurrently(
            model_name="product",
            index=models.Index(
                fields=["seller", "-created_at", "id"], include=["category", "prediction"], name="product_list_newest"
            ),
        ),
        AddIndexConcurrently(
            model_name="product",
            index=models.Index(
                fields=["seller", "title", "id"], include=["category", "prediction"], name="product_list_by_title"
            ),
        ),
        RemoveIndexConcurrently(model_name="product", name="product_of_seller"),
        RemoveIndexConcurrently(model_name="product", name="product_of_seller_by_title"),
    ]
