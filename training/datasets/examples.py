"""Keeping examples: every one that comes in gets its part here, and nothing else writes them."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain

from django.db import connection, transaction

from common.locks import Lock, lock_until_commit
from training.datasets import splits
from training.models import Example, ExampleQuerySet, Split

ASKED_AT_ONCE = 16  # titles; the index scan asks every key at every row that it finds
MOST_CANDIDATES = 500  # a title; among more that share a band with it not all are compared
START_OF_DESCRIPTION = 300  # characters that stand for the title of a product that has none


@dataclass(frozen=True)
class IncomingExample:
    """A product to be kept, its photo already stored."""

    external_id: str
    title: str
    description: str
    category_id: int
    photo: str = ""
    photo_digest: str = ""
    original_digest: str = ""
    group: str = ""


EXAMPLE_FIELDS = [item.name for item in fields(IncomingExample) if item.name != "external_id"]


@dataclass
class ImportOutcome:
    """What became of products: how many were added to each part, updated, or were there just so."""

    added: Counter[str] = field(default_factory=Counter)
    updated: int = 0
    unchanged: int = 0

    def add(self, other: "ImportOutcome") -> None:
        self.added.update(other.added)
        self.updated += other.updated
        self.unchanged += other.unchanged


@transaction.atomic
def store_examples(*, source: str, rows: Sequence[IncomingExample]) -> ImportOutcome:
    """Add the products that are new, update those that changed, and give each its part. Ids must be unique.

    A part never changes, but a product that changed and is now alike to those of another part is left out.
    """
    lock_until_commit(Lock.EXAMPLE_SPLITS)
    kept = ImportOutcome()
    known = {example.external_id: example for example in _of(source, [row.external_id for row in rows])}
    moved: list[Example] = []
    touched: list[Example] = []
    fresh: list[Example] = []
    for row in rows:
        example = known.get(row.external_id)
        if example is None:
            fresh.append(_filled(Example(source=source, external_id=row.external_id), row))
            continue
        before = _traits(example)
        settled = _settled(row)
        if all(getattr(example, name) == getattr(settled, name) for name in EXAMPLE_FIELDS):
            kept.unchanged += 1
            continue
        (touched if _traits(_filled(example, row)) == before else moved).append(example)
    _release(moved)
    _place([*moved, *fresh])
    kept.updated = len(moved) + len(touched)
    kept.added.update(example.split for example in fresh)
    Example.objects.bulk_create(fresh)
    if kept.updated:
        Example.objects.bulk_update([*moved, *touched], [*EXAMPLE_FIELDS, "split", "title_key", "bands"])
    return kept


@transaction.atomic
def delete_examples(examples: Collection[Example]) -> None:
    """Delete examples that may not be learnt from any more."""
    lock_until_commit(Lock.EXAMPLE_SPLITS)
    _release(examples)
    Example.objects.filter(pk__in=[example.pk for example in examples]).delete()


def comparison_words(example: Example) -> splits.Words:
    """Return what the example is compared by: the words of its title, else of its description's beginning."""
    return splits.title_words(example.title) or splits.title_words(example.description[:START_OF_DESCRIPTION])


def _of(source: str, ids: Sequence[str]) -> Iterable[Example]:
    return Example.objects.filter(source=source, external_id__in=ids)


def _settled(row: IncomingExample) -> IncomingExample:
    """Drop a group that doesn't count: only what has no words is kept together by it."""
    has_words = row.group and (
        splits.title_words(row.title) or splits.title_words(row.description[:START_OF_DESCRIPTION])
    )
    return replace(row, group="") if has_words else row


def _filled(example: Example, row: IncomingExample) -> Example:
    settled = _settled(row)
    for name in EXAMPLE_FIELDS:
        setattr(example, name, getattr(settled, name))
    return example


def _traits(example: Example) -> tuple[splits.Words, str, str]:
    """What decides which others an example is alike to."""
    return comparison_words(example), example.photo_digest, example.group


def _release(examples: Collection[Example]) -> None:
    """Hand the bands of examples that go or change to the next example of the same title."""
    for example in examples:
        if example.bands:
            heirs = Example.objects.in_a_split().filter(title_key=example.title_key, bands=[])
            heir = heirs.exclude(pk__in=[other.pk for other in examples]).order_by("pk").first()
            if heir:
                Example.objects.filter(pk=heir.pk).update(bands=example.bands)


def _place(examples: Sequence[Example]) -> None:
    """Give each example its part and what others will find it by: first those that have a part already."""
    word_sets = [comparison_words(example) for example in examples]
    for example, own_words in zip(examples, word_sets, strict=True):
        example.title_key = splits.title_key(own_words) or None
        example.bands = []
    others = Example.objects.in_a_split().exclude(pk__in=[example.pk for example in examples if example.pk])
    by_title = _parts(others.filter(title_key__in={e.title_key for e in examples if e.title_key}), "title_key")
    by_photo = _parts(
        others.filter(photo_digest__in={e.photo_digest for e in examples if e.photo_digest}), "photo_digest"
    )
    by_group: defaultdict[object, set[str]] = defaultdict(set)
    for source in {example.source for example in examples if example.group}:
        groups = {example.group for example in examples if example.source == source and example.group}
        for group, part in _parts(others.filter(source=source, group__in=groups), "group").items():
            by_group[source, group] |= part
    new_titles = {
        example.title_key: own_words
        for example, own_words in zip(examples, word_sets, strict=True)
        if example.title_key and example.title_key not in by_title
    }
    bands = {key: splits.minhash_bands(own_words) for key, own_words in new_titles.items()}
    near = _near(bands, moved={example.pk for example in examples if example.pk})
    for example, own_words in zip(examples, word_sets, strict=True):
        key, group = example.title_key, (example.source, example.group)
        alike = set(chain(by_photo[example.photo_digest], by_group[group], by_title[key] if key else ()))
        is_new_title = bool(key) and not by_title[key]
        if is_new_title and key is not None:
            alike |= near.parts(own_words, bands[key])
        part_key = splits.split_key(
            own_words,
            source=example.source,
            group=example.group,
            photo_digest=example.photo_digest,
            external_id=example.external_id,
        )
        example.split = splits.choose_split(alike, key=part_key, own=example.split)
        if example.split == Split.BRIDGE:
            continue
        if is_new_title and key is not None:
            example.bands = bands[key]
            near.add(own_words, bands[key], example.split)
        if key:
            by_title[key].add(example.split)
        if example.photo_digest:
            by_photo[example.photo_digest].add(example.split)
        if example.group:
            by_group[group].add(example.split)


def _parts(found: ExampleQuerySet, name: str) -> defaultdict[object, set[str]]:
    parts: defaultdict[object, set[str]] = defaultdict(set)
    for value, part in found.order_by().values_list(name, "split").distinct():
        parts[value].add(part)
    return parts


def _near(bands: Mapping[int, Sequence[int]], *, moved: set[int]) -> splits.NearTitles:
    """Return what is known and shares a band with one of the titles."""
    near = splits.NearTitles()
    seen: set[int] = set()
    asked = [keys for keys in bands.values() if keys]
    with connection.cursor() as cursor:
        # The planner knows nothing of how rare bands are, and comparing every row costs minutes.
        cursor.execute("SET LOCAL enable_seqscan = off")
    for start in range(0, len(asked), ASKED_AT_ONCE):
        for example in _sharing(asked[start : start + ASKED_AT_ONCE]):
            if example.pk not in seen and example.pk not in moved:
                seen.add(example.pk)
                near.add(comparison_words(example), example.bands, example.split)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = on")
    return near


def _sharing(asked: Sequence[Sequence[int]]) -> list[Example]:
    keys = list(chain.from_iterable(asked))
    most = MOST_CANDIDATES * len(asked)
    found = list(
        Example.objects.filter(bands__overlap=keys)
        .only("pk", "title", "description", "bands", "split")
        .order_by()[:most]
    )
    if len(found) < most or len(asked) == 1:
        return found
    middle = len(asked) // 2
    return _sharing(asked[:middle]) + _sharing(asked[middle:])
