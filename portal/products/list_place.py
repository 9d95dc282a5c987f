"""Remember which page of My products a seller came from, so that the way back keeps filter and page."""

from django.http import HttpRequest, QueryDict
from django.urls import reverse

PARAMETERS = ("q", "state", "category", "sort", "page")
LONGEST_QUERY = 2500  # characters; a search of 200 takes up to 1,800 in an address


def current_list_query(request: HttpRequest) -> str:
    """Return the query of the list page that is being shown, to be given to the pages that it links to."""
    return _known_parameters(request.GET)


def given_list_query(request: HttpRequest) -> str:
    """Return the query of the list page from which a page was reached, or an empty string."""
    # The address is the visitor's: only the list's own parameters are taken from it.
    return _known_parameters(QueryDict(request.GET.get("list", "")[:LONGEST_QUERY]))


def list_url(query: str) -> str:
    """Return the address of the list page with this query."""
    return _with_query(reverse("products"), query)


def with_list(url: str, query: str) -> str:
    """Return the address of a page from which the way back leads to the list page with this query."""
    if not query:
        return url
    carried = QueryDict(mutable=True)
    carried["list"] = query
    return _with_query(url, carried.urlencode())


def _known_parameters(given: QueryDict) -> str:
    kept = QueryDict(mutable=True)
    for name in PARAMETERS:
        if value := given.get(name):
            kept[name] = value
    return kept.urlencode()


def _with_query(url: str, query: str) -> str:
    return f"{url}?{query}" if query else url
