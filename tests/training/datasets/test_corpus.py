import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from training.datasets import corpus as corpora
from training.datasets.corpus import (
    MANIFEST,
    Corpus,
    CorpusError,
    CorpusRow,
    manifest_checksum,
    verify_shard,
    write_corpus,
)


def row(
    number: int, split: str = "train", label: str = "", photo: bytes | None = None, title: str = "a title"
) -> CorpusRow:
    digest = "d" * 64 if photo else ""
    return CorpusRow("shop", str(number), title, "", label or "ab"[number % 2], photo, digest, split)


def rows() -> Iterator[CorpusRow]:
    for number in range(40):
        photo = b"\xff\xd8photo" if number % 4 == 0 else None
        yield row(
            number, ("train", "train", "train", "test")[number // 2 % 4], photo=photo, title="" if photo else "title"
        )


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    write_corpus(rows(), tmp_path / "corpus", exclusions={"too old": 3, "none": 0})
    return Corpus(tmp_path / "corpus")


def test_a_corpus_gives_back_what_was_written(corpus: Corpus) -> None:
    train = corpus.split("train")
    assert train.column_names == ["source", "id", "title", "description", "label", "photo", "photo_digest"]
    assert len(train) == 30 == corpus.count("train")
    assert train[0]["photo"] == b"\xff\xd8photo"
    assert train[1]["photo"] is None
    assert corpus.labels == ["a", "b"]
    assert corpus.manifest["exclusions"] == {"too old": 3}
    assert len(corpus.split("validation")) == 0


def test_rows_with_a_text_or_a_photo_are_picked(corpus: Corpus) -> None:
    assert (
        len(corpus.split("train", with_photo=True, columns=["photo"])) == corpus.count("train", with_photo=True) == 10
    )
    assert set(corpus.split("train", with_text=True)["title"]) == {"title"}
    assert len(corpus.split("train", with_text=True, with_photo=True)) == 0
    assert [each["id"] for each in corpus.stream("test", columns=["id"])] == corpus.split("test", columns=["id"])["id"][
        :
    ]


def test_the_same_rows_have_the_same_checksum(corpus: Corpus, tmp_path: Path) -> None:
    again = write_corpus(rows(), tmp_path / "again", exclusions={"too old": 3})
    assert manifest_checksum(again) == corpus.checksum == Corpus(tmp_path / "again").checksum


def test_large_splits_are_cut_into_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "GROUP_BYTES", 5_000)
    monkeypatch.setattr(corpora, "SHARD_BYTES", 20_000)
    many = (row(number, photo=bytes([number]) * 1_000) for number in range(60))
    manifest = write_corpus(many, tmp_path / "c", exclusions={})
    names = [shard["name"] for shard in manifest["shards"]]
    assert len(names) > 2 and names[0] == "train-00000.parquet"
    assert sum(shard["rows"] for shard in manifest["shards"]) == 60
    assert [each["photo"][:1] for each in Corpus(tmp_path / "c").split("train")] == [bytes([n]) for n in range(60)]


@pytest.mark.parametrize(
    ("bad", "words"),
    [([], "empty"), ([row(1), row(3)], "one category"), ([row(1), row(2), row(3, "test", "c")], "no training row")],
)
def test_rows_without_anything_to_learn_are_refused(tmp_path: Path, bad: list[CorpusRow], words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        write_corpus(bad, tmp_path / "c", exclusions={})
    assert not (tmp_path / "c" / MANIFEST).exists()


def test_a_category_with_one_training_row_gives_a_warning(tmp_path: Path) -> None:
    manifest = write_corpus([row(1), row(2), row(4)], tmp_path / "c", exclusions={})
    assert manifest["warnings"] == [{"code": "one_training_row", "category": "b"}]


def test_a_damaged_corpus_names_the_shard(corpus: Corpus) -> None:
    shard = corpus.manifest["shards"][0]
    path = corpus.folder / shard["name"]
    verify_shard(path, shard)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CorpusError, match="train-00000.*damaged"):
        verify_shard(path, shard)
    path.unlink()
    with pytest.raises(CorpusError, match="missing"):
        verify_shard(path, shard)
    (corpus.folder / MANIFEST).write_text(json.dumps({"format": 99}))
    with pytest.raises(CorpusError, match="format"):
        Corpus(corpus.folder)


def test_reading_needs_no_django_and_writes_only_beside_the_corpus(corpus: Corpus, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from training.datasets.corpus import Corpus;"
        "c = Corpus(Path(sys.argv[1]));"
        "print(len(c.split('train')), sum(1 for _ in c.stream('train')), 'django' in sys.modules)"
    )
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(corpus.folder)],
        cwd=settings.BASE_DIR, env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["30", "30", "False"]
    assert list(home.rglob("*.arrow")) == []
