from django.db import migrations

ADD_ROWS = """
    INSERT INTO portal_productphoto (id, seller_id, product_id, position, large, small, created_at)
    SELECT gen_random_uuid(), seller_id, id, 0, photo_large, photo_small, created_at
    FROM portal_product WHERE photo_large <> ''
"""
# The version before deletes what has a row here with its files, after a day. What a product or prediction names stays.
# Of a product's further photos the files go, as that version can't show them.
DELETE_ROWS = """
    DELETE FROM portal_productphoto
    WHERE large IN (
        SELECT photo_large FROM portal_product UNION ALL SELECT photo_large FROM classifier_prediction
    )
"""


class Migration(migrations.Migration):
    """Add a row for the photo of each product; apart from the change of the table, which locks it."""

    dependencies = [("portal", "0011_product_photos"), ("classifier", "0001_initial")]

    operations = [migrations.RunSQL(ADD_ROWS, DELETE_ROWS)]
