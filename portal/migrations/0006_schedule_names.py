from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

NEW_NAMES = {
    "ring the predict workers": "wake the predict workers",
    "archive what is left": "archive pending predictions",
    "archive feedback that is left": "archive pending feedback",
    "stop new versions that fail": "stop failing versions",
    "ring the training workers": "wake the training workers",
    "fit ensemble rules that are missing": "fit missing ensemble rules",
    "answer reports that ask for retraining": "start retraining after drift reports",
    "delete old records of trials": "delete old shadow answers and failures",
    "erase accounts": "erase accounts that are due",
    "make data exports": "build data exports",
    "delete what is kept long enough": "apply retention periods",
    "delete exports that are old": "delete old data exports",
    "forget what was erased": "delete erased products from training data",
    "give new answers their place in the review queue": "rank new answers for review",
    "find sellers who mislabel on purpose": "detect fraud",
    "summarise what was predicted": "summarise predictions by hour",
    "write the references of drift": "create drift baselines",
    "tell what monitors found": "send notifications",
    "delete photos that no product took": "delete unused photo uploads",
}


def rename(apps: Apps, _editor: BaseDatabaseSchemaEditor) -> None:
    """Rename the rows, which may have been edited in the admin: a new name alone would run each task twice."""
    tasks = apps.get_model("django_celery_beat", "PeriodicTask")
    for old, new in NEW_NAMES.items():
        tasks.objects.filter(name=old).update(name=new)


def restore(apps: Apps, _editor: BaseDatabaseSchemaEditor) -> None:
    tasks = apps.get_model("django_celery_beat", "PeriodicTask")
    for old, new in NEW_NAMES.items():
        tasks.objects.filter(name=new).update(name=old)


class Migration(migrations.Migration):
    """Give the entries of the schedule the names that the pages and the documentation use."""

    dependencies = [("portal", "0005_log_by_object"), ("django_celery_beat", "0019_alter_periodictasks_options")]

    operations = [migrations.RunPython(rename, restore)]
