import json
from pathlib import Path

from django.db import transaction

from classifier import artifact, familiar, registry
from classifier.models import Category, CategoryAlias, EnsembleRule, Familiar, Modality, ModelVersion, Variant

HERE = Path(__file__).parent
STARTER = HERE / "starter"
STARTER_NAME = "starter"
# What `manage.py check_engine` found of each starter's engines, by its checksum, and what `learn_unusual` learnt.
STARTER_ENGINES = HERE / "starter_engines.json"
STARTER_FAMILIAR = HERE / "starter_familiar"


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
    """Register the starter models that come with Aisle; deploy them where nothing, or only an older starter, serves.

    A starter that was deployed before is the staff's business: it stays away when they rolled it back.
    """
    versions = {modality: _register_starter(STARTER / modality) for modality in Modality.values}
    for modality, version in versions.items():
        serving = Variant.objects.filter(version__modality=modality)
        is_new = not version.deployments.exists()
        if not serving.exists() or (is_new and not serving.exclude(version__name__startswith=STARTER_NAME).exists()):
            registry.deploy(version)
    rule = json.loads((STARTER / "ensemble.json").read_text())
    if all(rule[modality] == version.checksum for modality, version in versions.items()):
        EnsembleRule.objects.get_or_create(
            text_version=versions["text"],
            image_version=versions["image"],
            defaults={name: rule[name] for name in ("kind", "parameters", "metrics")},
        )
    return list(Variant.objects.select_related("version"))


def _register_starter(folder: Path) -> ModelVersion:
    checksum = artifact.verify(folder)
    version = registry.register(folder, name=f"{STARTER_NAME} {checksum[:8]}")
    checks = json.loads(STARTER_ENGINES.read_text()).get(checksum)
    if checks and not version.engines:
        version.engines = checks
        version.save(update_fields=["engines"])
    file = STARTER_FAMILIAR / familiar.file_name(version)
    if file.exists() and not Familiar.objects.filter(version=version).exists():
        familiar.keep_file(version, file)
    return version
