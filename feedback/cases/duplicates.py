"""Photographs and texts that a case's products share with other sellers' cases: further evidence, no more."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.core.files.storage import default_storage
from PIL import Image

from classifier.pictures import BROKEN, photo_hash, signed
from classifier.storage import StorageDown, storage_faults
from feedback.duplicates import BITS, COMMON, FLAT, MOST_BITS
from feedback.models import PREDICTIONS_VECTORS, Case, CaseProduct

NOTHING = 0  # the hash of what is no photograph: a plain surface, which is like nothing
MOST_COMPARED = 50_000  # products of other cases, the newest


@dataclass(frozen=True)
class Match:
    """One of the case's products, and products of other sellers' cases with the same photograph or words."""

    product: CaseProduct
    photo: list[CaseProduct]
    text: list[CaseProduct]


def hash_photos(limit: int = 500) -> int:
    """Look at photographs of open cases' products that nobody has looked at; return how many.

    Those that the storage doesn't give out now are looked at next time.
    """
    due = CaseProduct.objects.filter(photo_hash=None, case__state=Case.State.OPEN).exclude(prediction__photo_small="")
    done = 0
    for pk, name in due.order_by("-pk").values_list("pk", "prediction__photo_small")[:limit]:
        try:
            with storage_faults(), default_storage.open(name) as file, Image.open(file) as picture:
                found = signed(photo_hash(picture))
        except StorageDown:
            return done
        except (FileNotFoundError, *BROKEN):
            found = NOTHING
        done += CaseProduct.objects.filter(pk=pk).update(photo_hash=found)
    return done


def matches(case: Case, products: Sequence[CaseProduct]) -> list[Match]:
    """Return which products have twins in other sellers' cases. What more than `COMMON` sellers use says nothing."""
    others = CaseProduct.objects.exclude(case__seller=case.seller_id).order_by("-pk")
    columns = list(others.values_list("pk", "case__seller", "photo_hash", "text_hash")[:MOST_COMPARED])
    if not columns:
        return []
    sellers = [row[1] for row in columns]
    photos = np.array([row[2] or NOTHING for row in columns], np.int64).view(np.uint64)
    texts = np.array([row[3] or NOTHING for row in columns], np.int64)
    found: dict[int, dict[str, list[int]]] = defaultdict(dict)
    for number, product in enumerate(products):
        alike = {"photo": _alike(product.photo_hash, photos), "text": texts == (product.text_hash or -1)}
        for kind, rows in alike.items():
            rows = np.flatnonzero(rows)
            if 0 < len({sellers[row] for row in rows}) < COMMON:
                found[number][kind] = [columns[row][0] for row in rows[:5]]
    ids = [pk for kinds in found.values() for rows in kinds.values() for pk in rows]
    twins = CaseProduct.objects.select_related("case__seller", "prediction").defer(*PREDICTIONS_VECTORS).in_bulk(ids)
    return [
        Match(products[number], *([twins[pk] for pk in kinds.get(kind, [])] for kind in ("photo", "text")))
        for number, kinds in found.items()
    ]


def _alike(hash: int | None, hashes: Any) -> Any:
    """Return which hashes (n,) uint64 belong to the same photograph as one signed hash."""
    if hash is None:
        return np.zeros(len(hashes), bool)
    own = np.array([hash], np.int64).view(np.uint64)[0]
    if not FLAT <= int(np.bitwise_count(own)) <= BITS - FLAT:
        return np.zeros(len(hashes), bool)
    return np.bitwise_count(hashes ^ own) <= MOST_BITS
