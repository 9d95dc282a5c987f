"""Photographs and words that a case's products share with other sellers': further evidence, no more.

Photographs are compared with those of all sellers, by an index, and more tolerantly with those of other cases; words
with those of other cases.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from django.core.files.storage import default_storage
from django.db import connection
from PIL import Image

from classifier.models import Prediction
from common.object_storage import StorageDown, storage_faults
from common.photos.copies import BROKEN, photo_hash, signed
from feedback.models.cases import Case, CaseProduct
from feedback.statistics.duplicates import COMMON_SELLERS, HASH_BITS, MAXIMUM_DISTANCE, is_plain_surface

NO_HASH = 0  # the hash of what is no photograph: a plain surface, which is like nothing
MAXIMUM_COMPARED = 50_000  # products of other cases, the newest
MAXIMUM_USES = 1_000  # of a photograph by other sellers: what has more is nobody's own, however few they are
PHOTO, TEXT = "photo", "text"
FLIPS = [0, *(signed(1 << bit) for bit in range(HASH_BITS))]  # a hash xor each: itself, and all that differ in one bit

# Of each photograph as many sellers as make it common, each with the oldest product, and how many products were read.
# The index holds no empty hashes, and is used only where the query says that it wants none.
SAME_PHOTO = f"""
WITH asked AS (
    SELECT number, array_agg(hash # flip) AS alike
    FROM unnest(%s::int[], %s::bigint[]) AS own (number, hash), unnest(%s::bigint[]) AS flip
    GROUP BY number
)
SELECT asked.number, found.seller_id, found.id, found.uses
FROM asked CROSS JOIN LATERAL (
    SELECT DISTINCT ON (seller_id) seller_id, id, count(*) OVER () AS uses
    FROM (
        SELECT p.seller_id, p.id, p.created_at FROM classifier_prediction AS p
        WHERE p.photo_hash = ANY (asked.alike) AND p.photo_hash IS NOT NULL AND p.seller_id <> %s
        LIMIT %s
    ) AS near
    ORDER BY seller_id, created_at
    LIMIT {COMMON_SELLERS}
) AS found
"""  # noqa: S608 - made of a number


@dataclass(frozen=True)
class MatchingProduct:
    """Another seller's product with the same photograph, the same words or both, and that seller's newest case."""

    prediction: Prediction
    kinds: list[str]
    case: Case | None


@dataclass(frozen=True)
class ProductMatches:
    """One of the case's products and its twins, those of sellers with a case first."""

    product: CaseProduct
    twins: list[MatchingProduct]


@dataclass(frozen=True)
class ContentMatch:
    """That another seller's product is like the case's product in the place `number`."""

    number: int
    kind: str
    seller: int
    prediction: UUID


def hash_photos(limit: int = 500) -> int:
    """Hash photographs of open cases' products that were predicted before predictions kept a hash; return how many.

    Those that the storage doesn't give out now are looked at next time.
    """
    in_cases = CaseProduct.objects.filter(case__state=Case.State.OPEN).values("prediction")
    due = Prediction.objects.filter(photo_hash=None, pk__in=in_cases).exclude(photo_small="")
    done = 0
    for pk, name in due.order_by("pk").values_list("pk", "photo_small")[:limit]:
        try:
            with storage_faults(), default_storage.open(name) as file, Image.open(file) as picture:
                found = signed(photo_hash(picture))
        except StorageDown:
            return done
        except (FileNotFoundError, *BROKEN):
            found = NO_HASH
        done += Prediction.objects.filter(pk=pk, photo_hash=None).update(photo_hash=found)
    return done


def find_matches(case: Case, products: Sequence[CaseProduct]) -> list[ProductMatches]:
    """Return which products have twins at other sellers. What more than `COMMON_SELLERS` sellers use says nothing."""
    photos = {
        number: hash
        for number, product in enumerate(products)
        if (hash := product.prediction.photo_hash) is not None and not is_plain_surface(_unsigned([hash]))[0]
    }
    everywhere, worn = _at_all_sellers(case, photos)
    found: dict[tuple[int, str], dict[int, UUID]] = defaultdict(dict)
    for seen in (*_in_cases(case, products, photos), *everywhere):
        found[seen.number, seen.kind].setdefault(seen.seller, seen.prediction)
    kinds: dict[int, dict[UUID, list[str]]] = defaultdict(lambda: defaultdict(list))
    for (number, kind), by_seller in sorted(found.items()):
        if len(by_seller) < COMMON_SELLERS and not (kind == PHOTO and number in worn):
            for prediction in by_seller.values():
                kinds[number][prediction].append(kind)
    return [ProductMatches(products[number], alike) for number, alike in _twins(kinds) if alike]


def _twins(kinds: Mapping[int, Mapping[UUID, list[str]]]) -> Iterator[tuple[int, list[MatchingProduct]]]:
    """Yield what to show of each product's twins."""
    shown = Prediction.objects.select_related("seller").only("title", "photo_small", "seller__email")
    predictions = shown.in_bulk({pk for twins in kinds.values() for pk in twins})
    sellers = {prediction.seller_id for prediction in predictions.values()}
    cases = Case.objects.filter(seller__in=sellers).only("seller", "state").order_by("opened_at")
    newest = {case.seller_id: case for case in cases}
    for number, twins in kinds.items():
        there = [(predictions[pk], alike) for pk, alike in twins.items() if pk in predictions]  # not erased meanwhile
        found = [MatchingProduct(prediction, alike, newest.get(prediction.seller_id)) for prediction, alike in there]
        yield number, sorted(found, key=lambda twin: twin.case is None)


def same_photo_parameters(seller: int, photos: Mapping[int, int]) -> list[Any]:
    """Return what `SAME_PHOTO` takes, for signed hashes by the product's number."""
    return [list(photos), list(photos.values()), FLIPS, seller, MAXIMUM_USES]


def _at_all_sellers(case: Case, photos: Mapping[int, int]) -> tuple[list[ContentMatch], set[int]]:
    """Return up to `COMMON_SELLERS` other sellers of each photo, and the numbers of photos with too many uses."""
    if not photos:
        return [], set()
    with connection.cursor() as cursor:
        cursor.execute(SAME_PHOTO, same_photo_parameters(case.seller_id, photos))
        rows = cursor.fetchall()
    seen = [ContentMatch(number, PHOTO, seller, prediction) for number, seller, prediction, _uses in rows]
    return seen, {number for number, _seller, _prediction, uses in rows if uses >= MAXIMUM_USES}


def _in_cases(case: Case, products: Sequence[CaseProduct], photos: Mapping[int, int]) -> Iterator[ContentMatch]:
    others = CaseProduct.objects.exclude(case__seller=case.seller_id).order_by("-pk")
    columns = list(
        others.values_list("prediction", "case__seller", "prediction__photo_hash", "text_hash")[:MAXIMUM_COMPARED]
    )
    hashes = _unsigned([row[2] or NO_HASH for row in columns])
    texts = np.array([row[3] or NO_HASH for row in columns], np.int64)
    for number, product in enumerate(products):
        alike = {}
        if number in photos:
            alike[PHOTO] = np.bitwise_count(hashes ^ _unsigned([photos[number]])) <= MAXIMUM_DISTANCE
        if product.text_hash:
            alike[TEXT] = texts == product.text_hash
        for kind, rows in alike.items():
            for row in np.flatnonzero(rows):
                yield ContentMatch(number, kind, columns[row][1], columns[row][0])


def _unsigned(hashes: Sequence[int]) -> Any:
    return np.array(hashes, np.int64).view(np.uint64)
