"""Page through a seller's products."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet

from portal.models import Product, ProductQuerySet

PAGE_SIZE = 25
MOST_FOUND = 20 * PAGE_SIZE


class ProductPages(Paginator):  # type: ignore[type-arg]  # no generic class at run time
    """Pages of products, given as a query or by their ids; whole rows are read for one page only.

    A search is sent once and ends after MOST_FOUND products; `is_cut` says that there are more.
    """

    def __init__(self, products: ProductQuerySet | Sequence[UUID], *, is_search: bool) -> None:
        ids: Any = products.values_list("pk", flat=True) if isinstance(products, QuerySet) else products
        found = list(ids[: MOST_FOUND + 1]) if is_search else ids
        self.is_cut = is_search and len(found) > MOST_FOUND
        super().__init__(found[:MOST_FOUND] if is_search else found, PAGE_SIZE)

    def _get_page(self, ids: Any, *place: Any) -> Page[Product]:
        return super()._get_page(Product.objects.whole(ids), *place)  # type: ignore[no-any-return,misc]
