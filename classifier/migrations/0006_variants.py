import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


def keep_rollbacks(apps, schema_editor):
    """What was marked as a roll-back is of that kind."""
    apps.get_model("classifier", "Deployment").objects.filter(is_rollback=True).update(kind="rollback")


def restore_rollbacks(apps, schema_editor):
    apps.get_model("classifier", "Deployment").objects.filter(kind="rollback").update(is_rollback=True)


def remove_shadows(apps, schema_editor):
    """Before there were roles, everything was live."""
    apps.get_model("classifier", "Variant").objects.filter(role="shadow").delete()


# Transactions that commit at the same time check one after the other, each what the other has committed.
LIVE_SHARES = """
CREATE FUNCTION classifier_live_shares_sum_to_100() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('classifier_live_shares_sum_to_100'));
    SELECT version.modality || ': ' || sum(variant.weight) INTO wrong
    FROM classifier_variant variant JOIN classifier_modelversion version ON version.id = variant.version_id
    WHERE variant.role = 'live' GROUP BY version.modality HAVING sum(variant.weight) <> 100 LIMIT 1;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'the live shares of a modality must sum to 100 (%)', wrong
            USING ERRCODE = 'check_violation', CONSTRAINT = 'live_shares_sum_to_100', TABLE = 'classifier_variant';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER live_shares_sum_to_100 AFTER INSERT OR UPDATE OR DELETE ON classifier_variant
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION classifier_live_shares_sum_to_100();
"""
NO_LIVE_SHARES = """
DROP TRIGGER live_shares_sum_to_100 ON classifier_variant;
DROP FUNCTION classifier_live_shares_sum_to_100;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('classifier', '0005_engine_check'),
    ]

    operations = [
        migrations.CreateModel(
            name='Fault',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('rows', models.PositiveIntegerField(verbose_name='rows')),
                ('error', models.CharField(max_length=200, verbose_name='error')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='when')),
            ],
            options={
                'verbose_name': 'fault',
                'verbose_name_plural': 'faults',
                'ordering': ['-created_at'],
            },
        ),
        migrations.CreateModel(
            name='ShadowAnswer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('probabilities', models.JSONField(null=True, verbose_name='probabilities')),
                ('best', models.CharField(blank=True, help_text='Its slug.', max_length=80, verbose_name='likeliest')),
                ('agrees', models.BooleanField(help_text='Whether the live model of its kind found the same category likeliest.', null=True, verbose_name='agrees')),
                ('engine', models.CharField(blank=True, max_length=60, verbose_name='engine')),
                ('milliseconds', models.FloatField(null=True, verbose_name='compute time (ms)')),
                ('error', models.CharField(blank=True, max_length=200, verbose_name='error')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='when')),
            ],
            options={
                'verbose_name': "shadow's answer",
                'verbose_name_plural': "shadows' answers",
                'ordering': ['-created_at'],
            },
        ),
        migrations.RemoveConstraint(
            model_name='variant',
            name='weight_is_a_percentage',
        ),
        migrations.AddField(
            model_name='deployment',
            name='kind',
            field=models.CharField(choices=[('deployment', 'Deployment'), ('rollback', 'Roll-back'), ('test', 'Test started'), ('weights', 'Shares changed'), ('shadow', 'Shadow started'), ('stop', 'Stopped'), ('promotion', 'Promoted')], default='deployment', max_length=10, verbose_name='kind'),
        ),
        migrations.RunPython(keep_rollbacks, restore_rollbacks),
        migrations.RemoveField(
            model_name='deployment',
            name='is_rollback',
        ),
        migrations.AddField(
            model_name='deployment',
            name='shares',
            field=models.JSONField(default=dict, help_text="Each live version's share of traffic after it.", verbose_name='shares'),
        ),
        migrations.AddField(
            model_name='prediction',
            name='passes',
            field=models.JSONField(help_text="Of each model: the engine, its milliseconds a row and its batch's rows.", null=True, verbose_name='engines'),
        ),
        migrations.AddField(
            model_name='prediction',
            name='variant_key',
            field=models.UUIDField(editable=False, help_text='The product: the same variants answer it each time.', null=True, verbose_name='variant key'),
        ),
        migrations.AddField(
            model_name='variant',
            name='role',
            field=models.CharField(choices=[('live', 'Live'), ('shadow', 'Shadow')], default='live', max_length=6, verbose_name='role'),
        ),
        migrations.AlterField(
            model_name='variant',
            name='deployed_at',
            field=models.DateTimeField(auto_now_add=True, verbose_name='since'),
        ),
        migrations.AlterField(
            model_name='variant',
            name='weight',
            field=models.PositiveSmallIntegerField(default=100, help_text='1 to 100; a shadow has 0.', verbose_name='share of traffic (%)'),
        ),
        migrations.AddConstraint(
            model_name='variant',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('role', 'live'), ('weight__range', (1, 100))), models.Q(('role', 'shadow'), ('weight', 0)), _connector='OR'), name='weight_is_a_percentage'),
        ),
        migrations.AddField(
            model_name='fault',
            name='version',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='faults', to='classifier.modelversion', verbose_name='version'),
        ),
        migrations.AddField(
            model_name='shadowanswer',
            name='prediction',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='shadows', to='classifier.prediction', verbose_name='prediction'),
        ),
        migrations.AddField(
            model_name='shadowanswer',
            name='version',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='classifier.modelversion', verbose_name='version'),
        ),
        migrations.AddIndex(
            model_name='fault',
            index=models.Index(fields=['version', '-created_at'], name='fault_of_version'),
        ),
        migrations.AddIndex(
            model_name='shadowanswer',
            index=models.Index(fields=['version', '-created_at'], name='shadow_answer_of_version'),
        ),
        migrations.AddConstraint(
            model_name='shadowanswer',
            constraint=models.UniqueConstraint(models.F('prediction'), models.F('version'), name='one_answer_of_a_shadow'),
        ),
        migrations.RunPython(migrations.RunPython.noop, remove_shadows),
        migrations.RunSQL(LIVE_SHARES, NO_LIVE_SHARES),
    ]
