import uuid
from collections import defaultdict

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations

from portal.products.languages import product_language

ROWS_AT_ONCE = 1000


def fill_lexemes(apps, schema_editor):
    """Set the language of the products that have no lexemes; the trigger then sets these."""
    products = apps.get_model("portal", "Product").objects
    last = uuid.UUID(int=0)
    while True:
        waiting = products.filter(pk__gt=last, lexemes=None).order_by("pk")
        rows = list(waiting.values_list("pk", "title", "description")[:ROWS_AT_ONCE])
        if not rows:
            return
        ids_by_language = defaultdict(list)
        for pk, title, description in rows:
            ids_by_language[product_language(title, description)].append(pk)
        for language, ids in ids_by_language.items():
            products.filter(pk__in=ids).update(language=language)
        last = rows[-1][0]


class Migration(migrations.Migration):
    atomic = False  # beside what serves: the table is large
    dependencies = [("portal", "0016_product_lexemes")]

    operations = [
        migrations.RunPython(fill_lexemes, migrations.RunPython.noop),
        AddIndexConcurrently(
            model_name="product", index=GinIndex(fields=["lexemes"], name="product_lexemes", fastupdate=False)
        ),
        RemoveIndexConcurrently(model_name="product", name="product_words"),
    ]
