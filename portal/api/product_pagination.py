"""Page the API's list of products."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from rest_framework.pagination import Cursor
from rest_framework.request import Request

from portal.api.filters import BEST_MATCH
from portal.api.pagination import NewestFirst
from portal.models import Product
from portal.products.paging import MOST_FOUND
from portal.products.search import best_matches


class ProductPagination(NewestFirst):
    """Pages of products: the newest first, or the best matches of a search, whose cursor is a place among them."""

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        self.ranked: Sequence[UUID] | None = None
        query = request.query_params.get("q", "").strip()
        if request.query_params.get("sort") != BEST_MATCH or not query:
            return super().paginate_queryset(queryset, request, view)
        self.page_size = self.get_page_size(request) or self.page_size
        self.base_url = request.build_absolute_uri()
        cursor = self.decode_cursor(request)
        self.start = cursor.offset if cursor else 0
        self.ranked = best_matches(queryset, query, limit=MOST_FOUND)
        return Product.objects.whole(self.ranked[self.start : self.start + self.page_size])

    def get_next_link(self) -> str | None:
        if self.ranked is None:
            return super().get_next_link()
        following = self.start + self.page_size
        return self._link_to(following) if following < len(self.ranked) else None

    def get_previous_link(self) -> str | None:
        if self.ranked is None:
            return super().get_previous_link()
        return self._link_to(max(self.start - self.page_size, 0)) if self.start else None

    def _link_to(self, start: int) -> str:
        return str(self.encode_cursor(Cursor(offset=start, reverse=False, position=None)))
