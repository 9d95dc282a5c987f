import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('classifier', '0016_search_terms'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='CategoryBefore',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('values', models.JSONField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='Reassignment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('relation', models.CharField(help_text='As "portal.Product.category".', max_length=80)),
                ('row', models.CharField(help_text="The row's primary key.", max_length=40)),
            ],
        ),
        migrations.CreateModel(
            name='TaxonomyChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('add', 'added'), ('rename', 'renamed'), ('move', 'moved'), ('merge', 'merged'), ('split', 'split'), ('retire', 'retired'), ('restore', 'restored')], max_length=7, verbose_name='change')),
                ('key', models.CharField(max_length=80, verbose_name='category')),
                ('before', models.TextField(blank=True, verbose_name='before')),
                ('after', models.TextField(blank=True, verbose_name='after')),
                ('targets', models.JSONField(default=list, verbose_name='replaced by')),
                ('touched', models.JSONField(default=dict, help_text='Rows that name the category, by model.', verbose_name='touched')),
            ],
            options={
                'verbose_name': 'change of a category',
                'verbose_name_plural': 'changes of categories',
                'ordering': ['pk'],
            },
        ),
        migrations.CreateModel(
            name='TaxonomyVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('source', models.CharField(help_text='The file that describes the tree, or what a person did.', max_length=200, verbose_name='source')),
                ('scheme', models.CharField(blank=True, max_length=40, verbose_name='scheme')),
                ('scheme_version', models.CharField(blank=True, max_length=60, verbose_name='version of the scheme')),
                ('state', models.CharField(choices=[('draft', 'Draft'), ('applied', 'Applied'), ('undone', 'Undone')], default='draft', max_length=7, verbose_name='state')),
                ('nodes', models.JSONField(default=list, editable=False, help_text='The categories as they will be.')),
                ('counts', models.JSONField(default=dict, editable=False, verbose_name='changes')),
                ('problems', models.JSONField(default=list, editable=False, verbose_name='problems')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='created')),
                ('applied_at', models.DateTimeField(blank=True, editable=False, null=True, verbose_name='applied')),
                ('undone_at', models.DateTimeField(blank=True, editable=False, null=True, verbose_name='undone')),
            ],
            options={
                'verbose_name': 'version of the categories',
                'verbose_name_plural': 'versions of the categories',
                'ordering': ['-pk'],
            },
        ),
        migrations.AddField(
            model_name='category',
            name='codes',
            field=models.JSONField(blank=True, default=dict, verbose_name='codes in other schemes'),
        ),
        migrations.AddField(
            model_name='category',
            name='depth',
            field=models.PositiveSmallIntegerField(default=1, editable=False, verbose_name='level'),
        ),
        migrations.AddField(
            model_name='category',
            name='names',
            field=models.JSONField(blank=True, default=dict, verbose_name='names by language'),
        ),
        migrations.AddField(
            model_name='category',
            name='parent',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='children', to='classifier.category', verbose_name='parent'),
        ),
        migrations.AddField(
            model_name='category',
            name='path',
            field=models.CharField(default='', editable=False, max_length=200),
        ),
        migrations.AddField(
            model_name='category',
            name='position',
            field=models.PositiveIntegerField(default=0, help_text='Its place below its parent.', verbose_name='position'),
        ),
        migrations.AddField(
            model_name='category',
            name='redirect',
            field=models.ForeignKey(blank=True, editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='redirected', to='classifier.category', verbose_name='redirect'),
        ),
        migrations.AlterField(
            model_name='category',
            name='name',
            field=models.CharField(max_length=200, verbose_name='name'),
        ),
        migrations.AlterField(
            model_name='category',
            name='slug',
            field=models.CharField(help_text='Never changes once it is used.', max_length=80, unique=True, validators=[django.core.validators.RegexValidator('^[\\w:/~.-]+$', 'Use letters, digits and hyphens only.')], verbose_name='slug'),
        ),
        migrations.RunSQL(
            "UPDATE classifier_category SET path = id || '.'", migrations.RunSQL.noop  # one level, so far
        ),
        migrations.AddIndex(
            model_name='category',
            index=models.Index(fields=['path'], name='category_path', opclasses=['text_pattern_ops']),
        ),
        migrations.AddConstraint(
            model_name='category',
            constraint=models.UniqueConstraint(models.F('parent'), django.db.models.functions.text.Lower('name'), condition=models.Q(('is_active', True)), name='category_name_of_parent', nulls_distinct=False),
        ),
        migrations.AddConstraint(
            model_name='category',
            constraint=models.CheckConstraint(condition=models.Q(('redirect', None), ('is_active', False), _connector='OR'), name='redirected_is_not_active'),
        ),
        migrations.AddField(
            model_name='categorybefore',
            name='category',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='classifier.category'),
        ),
        migrations.AddField(
            model_name='reassignment',
            name='after',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='classifier.category'),
        ),
        migrations.AddField(
            model_name='reassignment',
            name='before',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='classifier.category'),
        ),
        migrations.AddField(
            model_name='taxonomyversion',
            name='created_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='created by'),
        ),
        migrations.AddField(
            model_name='taxonomychange',
            name='version',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='changes', to='classifier.taxonomyversion'),
        ),
        migrations.AddField(
            model_name='reassignment',
            name='version',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='reassignments', to='classifier.taxonomyversion'),
        ),
        migrations.AddField(
            model_name='categorybefore',
            name='version',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='categories_before', to='classifier.taxonomyversion'),
        ),
        migrations.AddIndex(
            model_name='taxonomychange',
            index=models.Index(fields=['version', 'kind'], name='taxonomy_change_kind'),
        ),
        migrations.AddIndex(
            model_name='reassignment',
            index=models.Index(fields=['version', 'relation'], name='reassignment_of_version'),
        ),
        migrations.AddConstraint(
            model_name='categorybefore',
            constraint=models.UniqueConstraint(fields=('version', 'category'), name='category_before_is_unique'),
        ),
    ]
