from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.operations import AddIndexConcurrently
from django.contrib.postgres.search import SearchVector
from django.db import migrations
from django.db.models import F, Func, TextField, Value

JOINTS = "-/._:@+&<>~=?#"


def apart(field: str) -> Func:
    return Func(F(field), Value(JOINTS), Value(" " * len(JOINTS)), function="translate", output_field=TextField())


class Migration(migrations.Migration):
    atomic = False  # beside what serves: the table is large
    dependencies = [("portal", "0002_lists")]

    operations = [
        AddIndexConcurrently(
            model_name="product",
            index=GinIndex(
                SearchVector(apart("title"), apart("description"), apart("sku"), config="simple"),
                fastupdate=False,
                name="product_words",
            ),
        ),
    ]
