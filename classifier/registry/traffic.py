"""Find the versions in use and choose the one that answers a product."""

import hashlib
import math
import uuid
from collections.abc import Iterable

from classifier.models import Modality, ModelVersion, Variant
from classifier.registry import versions

UNUSED_COLUMNS = tuple(f"version__{name}" for name in ModelVersion.REPORT_COLUMNS)


class NothingDeployed(Exception):
    """No model version of a needed modality is deployed."""


def live_variants(modality: str) -> list[Variant]:
    """Return the modality's live variants, the one with most traffic first."""
    variants = Variant.objects.filter(version__modality=modality, role=Variant.Role.LIVE)
    return list(variants.select_related("version").order_by("-weight", "pk"))


def current_champion(modality: str) -> ModelVersion | None:
    """Return the version that answers most of the modality's traffic."""
    variants = live_variants(modality)
    return variants[0].version if variants else None


def live_variants_by_modality() -> dict[str, list[Variant]]:
    """Return the live variants of each modality, the one with most traffic first."""
    return _variants_by_modality(Variant.Role.LIVE)


def shadows_by_modality() -> dict[str, list[Variant]]:
    """Return the shadows of each modality, the oldest first."""
    return _variants_by_modality(Variant.Role.SHADOW)


def _variants_by_modality(role: str) -> dict[str, list[Variant]]:
    variants: dict[str, list[Variant]] = {modality: [] for modality in Modality.values}
    rows = Variant.objects.filter(role=role).select_related("version").defer(*UNUSED_COLUMNS)
    for variant in rows.order_by("-weight", "pk"):
        variants[variant.version.modality].append(variant)
    return variants


def served_labels(modality: str, *, excluding: ModelVersion | None = None) -> set[str]:
    """Return the slugs that the live versions of a modality, except one, can suggest. Raises as `read_labels` does."""
    labels: set[str] = set()
    for variant in live_variants(modality):
        if variant.version != excluding:
            labels.update(versions.read_labels(variant.version))
    return labels


def traffic_state(modality: str) -> str:
    """Return the versions in use and their shares as one string, by which a page notices that they have changed."""
    rows = Variant.objects.filter(version__modality=modality).order_by("version")
    return " ".join(f"{version}:{weight}" for version, weight in rows.values_list("version", "weight"))


def choose_variant(variants: Iterable[Variant], key: uuid.UUID) -> ModelVersion:
    """Return the version that serves `key`: by weight, and always the same one for the same key and weights.

    Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights as in Schindelhauer and Schomaker 2005): each
    variant draws an exponential number from the key and its own checksum, and the least wins. A change of weights
    moves only keys that a variant gains or loses, and experiments of different modalities are independent.

    Raises NothingDeployed when there is none.
    """
    chosen = min(variants, key=lambda variant: -math.log(_draw(key, variant.version)) / variant.weight, default=None)
    if chosen is None:
        raise NothingDeployed("No model version is deployed; run `manage.py prepare`.")
    return chosen.version


def _draw(key: uuid.UUID, version: ModelVersion) -> float:
    """Return a number between 0 and 1, both excluded, that is always the same for the key and the version."""
    # The checksum, not the id: it is the same in every installation and after a restored backup.
    digest = hashlib.blake2b(key.bytes + version.checksum.encode(), digest_size=6).digest()
    # Plus one half, so that the logarithm of 0 is never taken.
    return (int.from_bytes(digest) + 0.5) / 2**48
