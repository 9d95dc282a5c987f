from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import F, Q
from django.db.models.functions import Lower


class Migration(migrations.Migration):
    atomic = False  # beside what serves: the table is large
    dependencies = [("portal", "0014_trash_indexes")]

    operations = [
        AddIndexConcurrently(
            model_name="product",
            index=models.Index(
                F("seller"), Lower("sku"), condition=Q(deleted_at=None) & ~Q(sku=""), name="product_sku_of_seller"
            ),
        ),
    ]
