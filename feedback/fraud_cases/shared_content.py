"""Find photos and texts that a case's products share with those of other sellers, as additional evidence.

Photos are compared with those of all sellers through an index, and more tolerantly with those of other cases; texts are
compared with those of other cases.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
from django.core.files.storage import default_storage
from PIL import Image

from classifier.models import Prediction
from common.object_storage import StorageDown, storage_faults
from common.photos.copies import BROKEN, photo_hash, signed
from common.sql import fetch_rows, load_query
from feedback.models.cases import Case, CaseProduct
from feedback.statistics.duplicates import COMMON_SELLERS, HASH_BITS, MAXIMUM_DISTANCE, is_plain_surface

NO_HASH = 0  # that of a plain surface, which matches nothing; stored for a photo that cannot be read
MAXIMUM_COMPARED = 50_000  # products of other cases, the newest
MAXIMUM_USES = 1_000  # by other sellers: a photo with more is no one's own, however few the sellers
PHOTO, TEXT = "photo", "text"
FLIPS = [0, *(signed(1 << bit) for bit in range(HASH_BITS))]  # masks of all changes of at most one bit
SAME_PHOTO = load_query(__file__, "same_photo")


@dataclass(frozen=True)
class SamePhotoRow:
    """A row of same_photo.sql: one seller's oldest product with the photo, and how often all other sellers use it."""

    number: int
    seller_id: int
    prediction_id: UUID
    uses: int


@dataclass(frozen=True)
class MatchingProduct:
    """Another seller's product with the same photo or text (`kinds`), and that seller's newest case."""

    prediction: Prediction
    kinds: list[str]
    case: Case | None


@dataclass(frozen=True)
class ProductMatches:
    """One of the case's products with its matches at other sellers, those of sellers with a case first."""

    product: CaseProduct
    matches: list[MatchingProduct]


@dataclass(frozen=True)
class ContentMatch:
    """A match of the case's product at position `number` with another seller's product."""

    number: int
    kind: str
    seller: int
    prediction: UUID


def hash_photos(limit: int = 500) -> int:
    """Hash photos of open cases' products whose predictions have no hash yet; return how many.

    Photos that the storage cannot deliver now are hashed by a later call.
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
    """Return the products that have matches at other sellers; content of `COMMON_SELLERS` or more is left out."""
    photos = _hashes_by_number(products)
    rows = _read_same_photos(case, photos)
    overused = {row.number for row in rows if row.uses >= MAXIMUM_USES}
    everywhere = [ContentMatch(row.number, PHOTO, row.seller_id, row.prediction_id) for row in rows]
    # Of one seller the first match counts: those in other cases come first.
    by_seller: dict[tuple[int, str], dict[int, UUID]] = defaultdict(dict)
    for match in (*_find_in_cases(case, products, photos), *everywhere):
        by_seller[match.number, match.kind].setdefault(match.seller, match.prediction)
    kinds: dict[int, dict[UUID, list[str]]] = defaultdict(lambda: defaultdict(list))
    for (number, kind), predictions in sorted(by_seller.items()):
        is_overused = kind == PHOTO and number in overused
        if len(predictions) >= COMMON_SELLERS or is_overused:
            continue
        for prediction in predictions.values():
            kinds[number][prediction].append(kind)
    return [ProductMatches(products[number], matches) for number, matches in _load_matches(kinds) if matches]


def same_photo_parameters(seller: int, photos: Mapping[int, int]) -> dict[str, Any]:
    """Return the parameters of same_photo.sql for signed hashes by the product's number."""
    return {
        "numbers": list(photos),
        "hashes": list(photos.values()),
        "flips": FLIPS,
        "seller": seller,
        "most_uses": MAXIMUM_USES,
        "most_sellers": COMMON_SELLERS,
    }


def _hashes_by_number(products: Sequence[CaseProduct]) -> dict[int, int]:
    """Return the signed photo hashes by position, without plain surfaces."""
    hashes = {}
    for number, product in enumerate(products):
        found = product.prediction.photo_hash
        if found is not None and not is_plain_surface(_to_unsigned([found]))[0]:
            hashes[number] = found
    return hashes


def _read_same_photos(case: Case, photos: Mapping[int, int]) -> list[SamePhotoRow]:
    if not photos:
        return []
    return fetch_rows(SAME_PHOTO, same_photo_parameters(case.seller_id, photos), SamePhotoRow)


def _find_in_cases(case: Case, products: Sequence[CaseProduct], photos: Mapping[int, int]) -> Iterator[ContentMatch]:
    """Yield the matches among products of other sellers' cases."""
    others = CaseProduct.objects.exclude(case__seller=case.seller_id).order_by("-pk")
    columns = others.values_list("prediction", "case__seller", "prediction__photo_hash", "text_hash", named=True)
    rows = list(columns[:MAXIMUM_COMPARED])
    hashes = _to_unsigned([row.prediction__photo_hash or NO_HASH for row in rows])
    texts = np.array([row.text_hash or NO_HASH for row in rows], np.int64)
    for number, product in enumerate(products):
        matching = {}
        if number in photos:
            matching[PHOTO] = np.bitwise_count(hashes ^ _to_unsigned([photos[number]])) <= MAXIMUM_DISTANCE
        if product.text_hash:
            matching[TEXT] = texts == product.text_hash
        for kind, is_match in matching.items():
            for index in np.flatnonzero(is_match):
                yield ContentMatch(number, kind, rows[index].case__seller, rows[index].prediction)


def _load_matches(
    kinds: Mapping[int, Mapping[UUID, list[str]]],
) -> Iterator[tuple[int, list[MatchingProduct]]]:
    """Yield the matches of each product with what the page shows of them."""
    ids = {pk for kinds_by_prediction in kinds.values() for pk in kinds_by_prediction}
    shown = Prediction.objects.select_related("seller").only("title", "photo_small", "seller__email")
    predictions = shown.in_bulk(ids)
    newest_cases = _load_newest_cases(predictions.values())
    for number, kinds_by_prediction in kinds.items():
        matches = []
        for pk, found in kinds_by_prediction.items():
            prediction = predictions.get(pk)
            if prediction is not None:  # not erased since it was found
                matches.append(MatchingProduct(prediction, found, newest_cases.get(prediction.seller_id)))
        yield number, sorted(matches, key=lambda match: match.case is None)


def _load_newest_cases(predictions: Iterable[Prediction]) -> dict[int, Case]:
    sellers = {prediction.seller_id for prediction in predictions}
    cases = Case.objects.filter(seller__in=sellers).only("seller", "state").order_by("opened_at")
    return {case.seller_id: case for case in cases}


def _to_unsigned(hashes: Sequence[int]) -> npt.NDArray[np.uint64]:
    return np.array(hashes, np.int64).view(np.uint64)
