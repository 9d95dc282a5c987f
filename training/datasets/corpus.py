"""Read and write corpora, without Django: immutable folders of Parquet shards with a manifest, for training.

`manifest.json` is written last and names every shard with its checksum, so a folder that has one is complete; reasons
and warnings are codes of `manifest_codes`:

    {"format": 1,
     "shards": [{"name": "train-00000.parquet", "split": "train", "rows": 9, "bytes": 9, "sha256": "..."}],
     "classes": {slug: {split: rows}}, "splits": {split: {"rows": 9, "with_text": 9, "with_photo": 9}},
     "sources": {source: rows}, "exclusions": {reason: rows}, "warnings": [{"code": "...", "category": slug}]}

The corpus's checksum is the SHA-256 of that file. Rows are read with Hugging Face `datasets`, memory-mapped or as a
stream, so a corpus may be larger than memory.
"""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.datasets.manifest_codes import find_warnings

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

FORMAT = 1
MANIFEST = "manifest.json"
SPLITS = ("train", "validation", "test")
SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("description", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("photo", pa.binary()),
        pa.field("photo_digest", pa.string(), nullable=False),
    ]
)
COLUMNS: tuple[str, ...] = tuple(SCHEMA.names)
SHARD_BYTES = 64 * 2**20
GROUP_BYTES = 8 * 2**20  # held in memory while it is written, and decoded at once while it is read
GROUP_ROWS = 5_000
CACHE = ".cache"


class CorpusError(Exception):
    """A corpus is missing, damaged or useless for training; the message says which and why."""


@dataclass(frozen=True)
class CorpusRow:
    """One labelled product: `label` is a category slug, `photo` a JPEG file or None."""

    source: str
    id: str
    title: str
    description: str
    label: str
    photo: bytes | None
    photo_digest: str
    split: str

    @property
    def size(self) -> int:
        """About how many bytes the row takes in memory."""
        return len(self.title) + len(self.description) + len(self.photo or b"") + 200


def row_key(source: str, id: str) -> str:
    """Return the name of a row, which is the same in all corpora."""
    return f"{source}/{id}"


def write_corpus(
    rows: Iterable[CorpusRow], folder: Path, *, exclusions: Mapping[str, int], least_labels: int = 2
) -> dict[str, Any]:
    """Write the rows into an empty folder, shard by shard with flat memory, and return the manifest.

    The same rows in the same order give the same bytes, so the same checksum. Raises CorpusError when a label of
    validation or test has no training row, and for fewer than `least_labels` labels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writers = {split: _SplitWriter(folder, split) for split in SPLITS}
    classes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    sources: Counter[str] = Counter()
    try:
        for row in rows:
            writers[row.split].add(row)
            classes[row.label][row.split] += 1
            sources[row.source] += 1
    finally:
        for writer in writers.values():
            writer.close()
    _check(classes, least_labels)
    manifest = {
        "format": FORMAT,
        "shards": [shard for split in SPLITS for shard in writers[split].shards],
        "classes": {slug: {split: counts[split] for split in SPLITS} for slug, counts in sorted(classes.items())},
        "splits": {split: writers[split].counts for split in SPLITS},
        "sources": dict(sorted(sources.items())),
        "exclusions": {reason: count for reason, count in sorted(exclusions.items()) if count},
        "warnings": find_warnings(classes),
    }
    (folder / MANIFEST).write_bytes(manifest_bytes(manifest))
    return manifest


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Return the content of a manifest's file; the order of the keys makes no difference."""
    return (json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def manifest_checksum(manifest: Mapping[str, Any]) -> str:
    """Return the checksum of a manifest's file, which is the corpus's."""
    return hashlib.sha256(manifest_bytes(manifest)).hexdigest()


def verify_shard(path: Path, shard: Mapping[str, Any]) -> None:
    """Raise CorpusError when a shard's file isn't what the manifest says."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise CorpusError(f"The shard {shard['name']} is missing.") from None
    if found != shard["sha256"]:
        raise CorpusError(f"The shard {shard['name']} is damaged: its checksum is not the manifest's.")


class Corpus:
    """A corpus in a local folder. Raises CorpusError for one without a manifest that can be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        try:
            content = (self.folder / MANIFEST).read_bytes()
            self.manifest: dict[str, Any] = json.loads(content)
        except (OSError, ValueError) as error:
            raise CorpusError(f"{self.folder} holds no whole corpus: {error}") from error
        if self.manifest.get("format") != FORMAT:
            raise CorpusError(f"{self.folder} is a corpus of another format: {self.manifest.get('format')!r}")
        self.checksum = hashlib.sha256(content).hexdigest()

    @property
    def labels(self) -> list[str]:
        """The slugs with at least one training row, sorted."""
        return sorted(slug for slug, counts in self.manifest["classes"].items() if counts["train"])

    def count(self, split: str, *, with_text: bool = False, with_photo: bool = False) -> int:
        """Return how many rows a split has, or how many of them with a text or a photo."""
        counts = self.manifest["splits"][split]
        if with_text:
            return int(counts["with_text"])
        return int(counts["with_photo"] if with_photo else counts["rows"])

    def split(
        self, name: str, *, columns: Sequence[str] | None = None, with_text: bool = False, with_photo: bool = False
    ) -> "Dataset":
        """Return the rows of a split, memory-mapped: all, or only those with a text or a photo.

        Each selection is unpacked once, into the corpus's own folder.
        """
        datasets = _offline_datasets()
        columns = list(columns or COLUMNS)
        features = datasets.Features.from_arrow_schema(_nullable(columns))
        filters = _row_filter(with_text, with_photo)
        # datasets refuses files of which no row is left.
        if not self._files(name) or not self._has_rows(name, filters):
            empty: Dataset = datasets.Dataset.from_dict({column: [] for column in columns}, features=features)
            return empty
        found: Dataset = datasets.Dataset.from_parquet(
            self._files(name),
            features=features,
            columns=columns,
            filters=filters,
            cache_dir=str(self.folder / CACHE),
            keep_in_memory=False,
        )
        return found

    def stream(
        self, name: str, *, columns: Sequence[str] | None = None, with_text: bool = False, with_photo: bool = False
    ) -> "IterableDataset":
        """Return the rows of a split one after the other, from the Parquet files: nothing is unpacked."""
        datasets = _offline_datasets()
        columns = list(columns or COLUMNS)
        features = datasets.Features.from_arrow_schema(_nullable(columns))
        if not self._files(name):
            empty = datasets.Dataset.from_dict({column: [] for column in columns}, features=features)
            return empty.to_iterable_dataset()
        found: IterableDataset = datasets.IterableDataset.from_parquet(
            self._files(name),
            features=features,
            columns=columns,
            filters=_row_filter(with_text, with_photo),
            cache_dir=str(self.folder / CACHE),  # for a lock file
        )
        return found

    def _files(self, split: str) -> list[str]:
        if split not in SPLITS:
            raise ValueError(f"There is no split {split!r}: {', '.join(SPLITS)}")
        return [str(self.folder / shard["name"]) for shard in self.manifest["shards"] if shard["split"] == split]

    def _has_rows(self, split: str, filters: "pc.Expression | None") -> bool:
        if filters is None:
            return True
        for path in self._files(split):
            if pq.read_table(path, columns=["photo_digest"], filters=filters).num_rows:
                return True
        return False


def _row_filter(with_text: bool, with_photo: bool) -> "pc.Expression | None":
    has_text = (pc.field("title") != "") | (pc.field("description") != "")
    has_photo = pc.field("photo_digest") != ""
    if with_text and with_photo:
        return has_text & has_photo
    if with_text:
        return has_text
    return has_photo if with_photo else None


class _SplitWriter:
    """Writes the shards of one split, a group of rows at a time."""

    def __init__(self, folder: Path, split: str) -> None:
        self.shards: list[dict[str, Any]] = []
        self.counts = {"rows": 0, "with_text": 0, "with_photo": 0}
        self._folder, self._split = folder, split
        self._rows: list[CorpusRow] = []
        self._waiting = 0
        self._writer: pq.ParquetWriter | None = None
        self._written = self._shard_rows = 0

    def add(self, row: CorpusRow) -> None:
        """Add a row; it is written when its group is full."""
        self._rows.append(row)
        self._waiting += row.size
        self.counts["rows"] += 1
        self.counts["with_text"] += bool(row.title or row.description)
        self.counts["with_photo"] += row.photo is not None
        if self._waiting >= GROUP_BYTES or len(self._rows) >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left and close the last shard."""
        self._flush()
        self._end_shard()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            # Photos are compressed already.
            compression = dict.fromkeys(COLUMNS, "zstd") | {"photo": "none"}
            self._writer = pq.ParquetWriter(self._path, SCHEMA, compression=compression)
        cells = {column: [getattr(row, column) for row in self._rows] for column in COLUMNS}
        table = pa.Table.from_pydict(cells, SCHEMA)
        self._writer.write_table(table, row_group_size=len(self._rows))
        # Sizes are estimated before compression, so a shard ends up smaller than SHARD_BYTES.
        self._written += self._waiting
        self._shard_rows += len(self._rows)
        self._rows, self._waiting = [], 0
        if self._written >= SHARD_BYTES - GROUP_BYTES:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        with self._path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        shard = {"name": self._path.name, "split": self._split, "rows": self._shard_rows}
        self.shards.append({**shard, "bytes": self._path.stat().st_size, "sha256": digest})
        self._writer = None
        self._written = self._shard_rows = 0

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._split}-{len(self.shards):05}.parquet"


def _check(classes: Mapping[str, Mapping[str, int]], least_labels: int) -> None:
    learnable = [slug for slug, counts in classes.items() if counts["train"]]
    if not learnable and least_labels:
        raise CorpusError("The dataset is empty: there is no product to learn from. Import some with import_products.")
    if len(learnable) == 1 and least_labels > 1:
        raise CorpusError(f"The dataset has only one category ({learnable[0]}); a model needs at least two.")
    if len(learnable) < len(classes):
        raise CorpusError(
            "Some labels have no training row, because the examples changed while the dataset was made: make it again."
        )


def concatenate_splits(rows: Sequence["Dataset"]) -> "Dataset":
    """Return the rows of several splits with the same columns as one."""
    joined: Dataset = _offline_datasets().concatenate_datasets(list(rows))
    return joined


def make_rows(like: "Dataset", columns: Mapping[str, Sequence[str]]) -> "Dataset":
    """Return rows with these values and the column types of `like`."""
    rows: Dataset = _offline_datasets().Dataset.from_dict(dict(columns), features=like.features)
    return rows


def _nullable(columns: Sequence[str]) -> pa.Schema:
    return pa.schema([SCHEMA.field(column).with_nullable(True) for column in columns])


def _offline_datasets() -> Any:
    """Import the library with the network and its progress bars switched off by variables that it reads then."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    import datasets

    return datasets
