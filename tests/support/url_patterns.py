"""List the URL patterns of the whole site."""

from collections.abc import Iterator

from django.urls import URLPattern, URLResolver, get_resolver


def all_url_patterns(resolver: URLResolver | None = None, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Yield every address with its pattern, those of included modules too."""
    for entry in (resolver or get_resolver()).url_patterns:
        address = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from all_url_patterns(entry, address)
        else:
            yield address, entry
