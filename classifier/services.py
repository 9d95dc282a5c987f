import json
from pathlib import Path

from django.db import transaction

from classifier import registry
from classifier.models import Category, CategoryAlias, EnsembleRule, Modality, Variant

HERE = Path(__file__).parent
STARTER = HERE / "starter"


@transaction.atomic
def load_categories() -> int:
    """Create the categories and aliases of categories.json that are missing; return how many categories there are.

    What staff renamed, added or switched off stays as it is.
    """
    for slug, entry in json.loads((HERE / "categories.json").read_text()).items():
        category, _created = Category.objects.get_or_create(slug=slug, defaults={"name": entry["name"]})
        for alias in entry.get("aliases", []):
            if not CategoryAlias.objects.filter(name__iexact=alias).exists():
                CategoryAlias.objects.create(category=category, name=alias)
    return Category.objects.count()


def register_starters() -> list[Variant]:
    """Register the starter models that come with Aisle; deploy each where its modality has nothing deployed."""
    versions = {modality: registry.register(STARTER / modality, name="starter") for modality in Modality.values}
    for modality, version in versions.items():
        if not Variant.objects.filter(version__modality=modality).exists():
            registry.deploy(version)
    rule = json.loads((STARTER / "ensemble.json").read_text())
    if all(rule[modality] == version.checksum for modality, version in versions.items()):
        EnsembleRule.objects.get_or_create(
            text_version=versions["text"],
            image_version=versions["image"],
            defaults={"temperature": rule["temperature"], "metrics": rule["metrics"]},
        )
    return list(Variant.objects.select_related("version"))
