from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("portal", "0012_rows_of_product_photos")]

    operations = [
        migrations.AddField(
            model_name="product",
            name="deleted_at",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="deleted"),
        ),
    ]
