from django.db import migrations


def note_deployments(apps, schema_editor):
    """What serves already was deployed once: roll-backs and new starters go by these rows."""
    Deployment = apps.get_model("classifier", "Deployment")
    for variant in apps.get_model("classifier", "Variant").objects.select_related("version").order_by("pk"):
        row = Deployment.objects.create(modality=variant.version.modality, version=variant.version)
        Deployment.objects.filter(pk=row.pk).update(created_at=variant.deployed_at)


class Migration(migrations.Migration):

    dependencies = [
        ('classifier', '0003_registry'),
    ]

    operations = [
        migrations.RunPython(note_deployments, migrations.RunPython.noop),
    ]
