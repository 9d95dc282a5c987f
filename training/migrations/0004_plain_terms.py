import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('classifier', '0013_help_texts'),
        ('training', '0003_held_runs'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        # The column is named first, so that renaming the field changes no table.
        migrations.AlterField(
            model_name="trainingrun",
            name="due_at",
            field=models.DateTimeField(
                db_column="due_at",
                db_default=django.db.models.functions.datetime.Now(),
                help_text="When a worker may claim it.",
                verbose_name="available from",
            ),
        ),
        migrations.RenameField(model_name="trainingrun", old_name="due_at", new_name="available_at"),
        migrations.AlterField(
            model_name='dataset',
            name='description',
            field=models.JSONField(help_text='The result of describe_dataset.', null=True, verbose_name='description'),
        ),
        migrations.AlterField(
            model_name='example',
            name='group',
            field=models.CharField(blank=True, help_text='Products of one group stay in one split.', max_length=120, verbose_name='group'),
        ),
        migrations.AlterField(
            model_name='example',
            name='original_digest',
            field=models.CharField(blank=True, editable=False, help_text="Of the photo's file as it was imported, not of our copy.", max_length=64),
        ),
        migrations.AlterField(
            model_name='example',
            name='split',
            field=models.CharField(choices=[('train', 'Training'), ('validation', 'Validation'), ('test', 'Test'), ('bridge', 'Left out: similar to products of two splits')], max_length=10, verbose_name='split'),
        ),
        migrations.AlterField(
            model_name='trainingrun',
            name='created_at',
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='requested'),
        ),
        migrations.AlterField(
            model_name='trainingrun',
            name='ends_test',
            field=models.BooleanField(default=False, help_text='Without it, a version that passes during an experiment is only registered.', verbose_name='ends an experiment'),
        ),
        migrations.AlterField(
            model_name='trainingrun',
            name='heartbeat_at',
            field=models.DateTimeField(null=True, verbose_name='last heartbeat'),
        ),
        migrations.AlterField(
            model_name='trainingrun',
            name='is_cancelled',
            field=models.BooleanField(default=False, verbose_name='cancellation requested'),
        ),
        migrations.AlterField(
            model_name='trainingrun',
            name='parent',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='classifier.modelversion', verbose_name='continues from'),
        ),
        migrations.AlterField(
            model_name='trainingrun',
            name='requested_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='requested by'),
        ),
    ]
