"""Store examples and give each its split. No other module writes examples."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain

from django.db import connection, transaction

from common.locks import Lock, lock_until_commit
from training.datasets import splits
from training.models import Example, ExampleQuerySet, Split

TITLES_PER_QUERY = 16  # the index scan checks every band of the query at every row that it finds
MOST_CANDIDATES = 500  # for each title; of more that share a band with it not all are compared
START_OF_DESCRIPTION = 300  # characters that replace the title of a product that has none


@dataclass(frozen=True)
class IncomingExample:
    """A product to be stored as an example; its photo is stored already."""

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
    """How many products were added to each split, updated, or unchanged."""

    added: Counter[str] = field(default_factory=Counter)
    updated: int = 0
    unchanged: int = 0

    def add(self, other: "ImportOutcome") -> None:
        """Add another batch's numbers."""
        self.added.update(other.added)
        self.updated += other.updated
        self.unchanged += other.unchanged


@transaction.atomic
def store_examples(*, source: str, rows: Sequence[IncomingExample]) -> ImportOutcome:
    """Add new products, update those that changed, and give each its split. Ids must be unique.

    A split never changes, but a product that changed and is now similar to those of another split leaves its split.
    """
    # Two imports at the same time could put near-duplicates into different splits.
    lock_until_commit(Lock.EXAMPLE_SPLITS)
    outcome = ImportOutcome()
    known = {example.external_id: example for example in _find_examples(source, [row.external_id for row in rows])}
    # Of changed examples, `moved` have other words, photo or group than before, by which splits are chosen.
    moved: list[Example] = []
    edited: list[Example] = []
    new: list[Example] = []
    for row in rows:
        example = known.get(row.external_id)
        if example is None:
            new.append(_filled(Example(source=source, external_id=row.external_id), row))
            continue
        before = _traits(example)
        values = _without_idle_group(row)
        if all(getattr(example, name) == getattr(values, name) for name in EXAMPLE_FIELDS):
            outcome.unchanged += 1
            continue
        if _traits(_filled(example, row)) == before:
            edited.append(example)
        else:
            moved.append(example)
    _hand_over_bands(moved)
    _choose_splits([*moved, *new])
    outcome.updated = len(moved) + len(edited)
    outcome.added.update(example.split for example in new)
    Example.objects.bulk_create(new)
    if outcome.updated:
        Example.objects.bulk_update([*moved, *edited], [*EXAMPLE_FIELDS, "split", "title_key", "bands"])
    return outcome


@transaction.atomic
def delete_examples(examples: Collection[Example]) -> None:
    """Delete examples that models must not learn from any more."""
    lock_until_commit(Lock.EXAMPLE_SPLITS)
    _hand_over_bands(examples)
    Example.objects.filter(pk__in=[example.pk for example in examples]).delete()


def comparison_words(example: Example) -> splits.Words:
    """Return the words that an example is compared by: its title's, or else those of its description's beginning."""
    return splits.title_words(example.title) or splits.title_words(example.description[:START_OF_DESCRIPTION])


def _find_examples(source: str, ids: Sequence[str]) -> Iterable[Example]:
    return Example.objects.filter(source=source, external_id__in=ids)


def _without_idle_group(row: IncomingExample) -> IncomingExample:
    """Clear the group of a product with words: only products without words are kept together by it."""
    has_words = row.group and (
        splits.title_words(row.title) or splits.title_words(row.description[:START_OF_DESCRIPTION])
    )
    return replace(row, group="") if has_words else row


def _filled(example: Example, row: IncomingExample) -> Example:
    values = _without_idle_group(row)
    for name in EXAMPLE_FIELDS:
        setattr(example, name, getattr(values, name))
    return example


def _traits(example: Example) -> tuple[splits.Words, str, str]:
    """Return what decides which other examples one is similar to."""
    return comparison_words(example), example.photo_digest, example.group


def _hand_over_bands(examples: Collection[Example]) -> None:
    """Give the bands of examples that are deleted or change to the next example of the same title.

    Only one example of each title holds the bands. Without an heir, similar titles would no longer find it.
    """
    for example in examples:
        if example.bands:
            heirs = Example.objects.in_a_split().filter(title_key=example.title_key, bands=[])
            heir = heirs.exclude(pk__in=[other.pk for other in examples]).order_by("pk").first()
            if heir:
                Example.objects.filter(pk=heir.pk).update(bands=example.bands)


def _choose_splits(examples: Sequence[Example]) -> None:
    """Give each example its split and the keys by which others find it."""
    word_sets = [comparison_words(example) for example in examples]
    for example, own_words in zip(examples, word_sets, strict=True):
        example.title_key = splits.title_key(own_words) or None
        example.bands = []
    index = _SplitIndex(examples, word_sets)
    for example, own_words in zip(examples, word_sets, strict=True):
        split_key = splits.split_key(
            own_words,
            source=example.source,
            group=example.group,
            photo_digest=example.photo_digest,
            external_id=example.external_id,
        )
        similar_splits = index.find_splits(example, own_words)
        example.split = splits.choose_split(similar_splits, key=split_key, own=example.split)
        # One that is similar to two splits must not draw further examples to either of them.
        if example.split != Split.BRIDGE:
            index.add(example, own_words)


class _SplitIndex:
    """The splits of stored and new examples by title, photo, group and similar title.

    It is loaded for a batch of examples and holds what is similar to one of them; the batch is added one by one.
    """

    def __init__(self, examples: Sequence[Example], word_sets: Sequence[splits.Words]) -> None:
        moved = {example.pk for example in examples if example.pk}
        others = Example.objects.in_a_split().exclude(pk__in=moved)
        title_keys = {example.title_key for example in examples if example.title_key}
        photo_digests = {example.photo_digest for example in examples if example.photo_digest}
        self.by_title = _splits_by(others.filter(title_key__in=title_keys), "title_key")
        self.by_photo = _splits_by(others.filter(photo_digest__in=photo_digests), "photo_digest")
        self.by_group: defaultdict[object, set[str]] = defaultdict(set)
        for source in {example.source for example in examples if example.group}:
            groups = {example.group for example in examples if example.source == source and example.group}
            found = _splits_by(others.filter(source=source, group__in=groups), "group")
            for group, group_splits in found.items():
                self.by_group[source, group] |= group_splits
        # A title that is known has its split already: only new ones are compared with similar titles.
        self.new_bands: dict[int, list[int]] = {}
        for example, own_words in zip(examples, word_sets, strict=True):
            key = example.title_key
            if key and key not in self.by_title and key not in self.new_bands:
                self.new_bands[key] = splits.minhash_bands(own_words)
        self.similar_titles = _load_similar_titles(self.new_bands, moved=moved)

    def find_splits(self, example: Example, own_words: splits.Words) -> set[str]:
        """Return the splits of all examples that are similar to this one."""
        found = set(self.by_photo[example.photo_digest])
        found |= self.by_group[example.source, example.group]
        if example.title_key:
            found |= self.by_title[example.title_key]
            if self._is_first_of_its_title(example):
                found |= self.similar_titles.find_splits(own_words, self.new_bands[example.title_key])
        return found

    def add(self, example: Example, own_words: splits.Words) -> None:
        """Add an example with its split; the first one of a new title gets the bands."""
        if example.title_key:
            if self._is_first_of_its_title(example):
                example.bands = self.new_bands[example.title_key]
                self.similar_titles.add(own_words, example.bands, example.split)
            self.by_title[example.title_key].add(example.split)
        if example.photo_digest:
            self.by_photo[example.photo_digest].add(example.split)
        if example.group:
            self.by_group[example.source, example.group].add(example.split)

    def _is_first_of_its_title(self, example: Example) -> bool:
        return not self.by_title[example.title_key]


def _splits_by(examples: ExampleQuerySet, name: str) -> defaultdict[object, set[str]]:
    """Return the splits of the examples by the value of a field."""
    found: defaultdict[object, set[str]] = defaultdict(set)
    for value, split in examples.order_by().values_list(name, "split").distinct():
        found[value].add(split)
    return found


def _load_similar_titles(bands: Mapping[int, Sequence[int]], *, moved: set[int]) -> splits.NearTitles:
    """Load the stored examples that share a band with one of the titles; those that are being moved don't count."""
    near = splits.NearTitles()
    seen: set[int] = set()
    titles = [keys for keys in bands.values() if keys]
    with connection.cursor() as cursor:
        # The planner cannot know how rare a band is, and would compare every row, which takes minutes.
        cursor.execute("SET LOCAL enable_seqscan = off")
    for start in range(0, len(titles), TITLES_PER_QUERY):
        for example in _sharing_a_band(titles[start : start + TITLES_PER_QUERY]):
            if example.pk not in seen and example.pk not in moved:
                seen.add(example.pk)
                near.add(comparison_words(example), example.bands, example.split)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = on")
    return near


def _sharing_a_band(titles: Sequence[Sequence[int]]) -> list[Example]:
    """Return examples that share a band with one of the titles, at most `MOST_CANDIDATES` for each."""
    keys = list(chain.from_iterable(titles))
    most = MOST_CANDIDATES * len(titles)
    found = list(
        Example.objects.filter(bands__overlap=keys)
        .only("pk", "title", "description", "bands", "split")
        .order_by()[:most]
    )
    if len(found) < most or len(titles) == 1:
        return found
    # One title with many candidates must not crowd out those of the others.
    middle = len(titles) // 2
    return _sharing_a_band(titles[:middle]) + _sharing_a_band(titles[middle:])
