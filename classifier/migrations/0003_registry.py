import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def keep_temperatures(apps, schema_editor):
    """A rule's temperature becomes its one parameter."""
    EnsembleRule = apps.get_model("classifier", "EnsembleRule")
    for rule in EnsembleRule.objects.all():
        EnsembleRule.objects.filter(pk=rule.pk).update(parameters={"temperature": rule.temperature})


def restore_temperatures(apps, schema_editor):
    EnsembleRule = apps.get_model("classifier", "EnsembleRule")
    for rule in EnsembleRule.objects.all():
        EnsembleRule.objects.filter(pk=rule.pk).update(temperature=rule.parameters.get("temperature", 1.0))


class Migration(migrations.Migration):

    dependencies = [
        ('classifier', '0002_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Deployment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('modality', models.CharField(choices=[('text', 'Text'), ('image', 'Image')], max_length=8, verbose_name='modality')),
                ('is_rollback', models.BooleanField(default=False, verbose_name='rollback')),
                ('note', models.CharField(blank=True, max_length=200, verbose_name='note')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='when')),
                ('deployed_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='by')),
                ('replaced', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='classifier.modelversion', verbose_name='replaced')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='deployments', to='classifier.modelversion', verbose_name='version')),
            ],
            options={
                'verbose_name': 'deployment',
                'verbose_name_plural': 'deployments',
                'ordering': ['-created_at', '-pk'],
            },
        ),
        migrations.AddField(
            model_name='ensemblerule',
            name='kind',
            field=models.CharField(choices=[('accuracy-weighted', 'Accuracy-weighted mean'), ('log-pool', 'Log pool')], default='accuracy-weighted', max_length=20, verbose_name='rule'),
        ),
        migrations.AddField(
            model_name='ensemblerule',
            name='parameters',
            field=models.JSONField(default=dict, verbose_name='parameters'),
        ),
        migrations.RunPython(keep_temperatures, restore_temperatures),
        migrations.RemoveConstraint(
            model_name='ensemblerule',
            name='temperature_is_positive',
        ),
        migrations.RemoveField(
            model_name='ensemblerule',
            name='temperature',
        ),
        migrations.AlterModelOptions(
            name='modelversion',
            options={'ordering': ['-created_at'], 'permissions': [('deploy_modelversion', 'Can deploy and roll back model versions')], 'verbose_name': 'model version', 'verbose_name_plural': 'model versions'},
        ),
        migrations.AddField(
            model_name='modelversion',
            name='lineage',
            field=models.JSONField(default=dict, help_text='Dataset, recipe, run and code version.', verbose_name='lineage'),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='parent',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='children', to='classifier.modelversion', verbose_name='trained on from'),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='reason',
            field=models.TextField(blank=True, help_text='What the gate said.', verbose_name='reason'),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='state',
            field=models.CharField(choices=[('registered', 'Registered'), ('rejected', 'Rejected')], default='registered', max_length=10, verbose_name='state'),
        ),
        migrations.AlterField(
            model_name='prediction',
            name='ensemble',
            field=models.JSONField(null=True, verbose_name='how both were combined'),
        ),
    ]
