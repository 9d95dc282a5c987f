import csv
import io
import random
from collections import defaultdict
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from PIL import Image

from classifier.models import Category
from classifier.table_photos import small_copy
from common.tables.errors import RowError, SourceError
from tests.support.photos import product_photo
from tests.support.product_files import import_table, plain_jpeg, write_table, write_zip
from training.datasets.examples import comparison_words
from training.datasets.splits import are_near_duplicates
from training.models import Example, Split

pytestmark = pytest.mark.django_db


def shelf(name: str) -> int:
    return Category.objects.get(name=name).pk


def everything() -> list[tuple[object, ...]]:
    return list(Example.objects.order_by("pk").values_list())


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = write_table(
        tmp_path / "shop",
        [
            ("1", "Garden rake", "steel", "Patio, Lawn & Garden", "1.jpg"),
            ("2", "Lipstick", "", "all beauty", ""),
            ("3", "", "", "Pet Supplies", "3.jpg"),
        ],
    )
    write_zip(folder / "images-000.zip", {"1.jpg": product_photo(), "3.jpg": plain_jpeg("blue")})
    return folder


def test_products_become_examples_with_small_clean_photos(shop: Path) -> None:
    report = import_table(shop)
    assert report.outcome.added.total() == 3
    assert not report.skipped
    rake = Example.objects.get(external_id="1")
    assert (rake.source, rake.title, rake.category_id) == ("shop", "Garden rake", shelf("Patio, Lawn & Garden"))
    assert rake.photo == f"photos/{rake.photo_digest}.jpg"
    assert storages["datasets"].open(rake.photo).read(2) == b"\xff\xd8"
    assert Example.objects.get(external_id="2").category_id == shelf("Beauty")


def test_importing_twice_changes_nothing(shop: Path) -> None:
    import_table(shop)
    before = everything()
    report = import_table(shop)
    assert (report.outcome.unchanged, report.outcome.updated, report.outcome.added.total()) == (3, 0, 0)
    assert everything() == before


def test_a_killed_import_continues_when_it_is_run_again(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.datasets import importing

    monkeypatch.setattr(importing, "ROWS_AT_ONCE", 1)
    keep, kept = importing.store_examples, []

    def die(**arguments: object) -> object:
        if len(kept) == 2:
            raise KeyboardInterrupt
        kept.append(1)
        return keep(**arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(importing, "store_examples", die)
    with pytest.raises(KeyboardInterrupt):
        import_table(shop)
    assert Example.objects.count() == 2
    monkeypatch.setattr(importing, "store_examples", keep)
    report = import_table(shop)
    assert (report.outcome.unchanged, report.outcome.added.total()) == (2, 1)


def test_bad_rows_are_counted_listed_and_skipped(tmp_path: Path) -> None:
    folder = write_table(
        tmp_path / "bad",
        [
            ("1", "Good", "", "Beauty", ""),
            ("1", "Twin", "", "Beauty", ""),
            ("2", "No such shelf", "", "Cutlery", ""),
            ("3", "Photo is gone", "", "Beauty", "gone.jpg"),
            ("4", "Photo is broken", "", "Beauty", "broken.jpg"),
            ("5", " ", "", "Beauty", ""),
            ("", "No id", "", "Beauty", ""),
            ("=cmd()", "No category", "", "", ""),
            ("7", "Half a photo", "", "Beauty", "half.jpg"),
            ("8", "nan", "N/A", "Beauty", "gone.jpg"),
        ],
    )
    write_zip(folder / "i.zip", {"broken.jpg": b"not a photo", "half.jpg": product_photo()[:3000]})
    report = import_table(folder)
    assert report.skipped == {
        "duplicate id": 1, "unknown category": 1, "missing photo": 1, "no input": 1, "no id": 1, "no category": 1,
    }  # fmt: skip
    assert report.without_photo == {"missing photo": 1, "broken photo": 2}
    assert report.unknown_categories == {"Cutlery": 1}
    assert list(Example.objects.order_by("pk").values_list("title", "photo")) == [
        ("Good", ""), ("Photo is gone", ""), ("Photo is broken", ""), ("Half a photo", ""),
    ]  # fmt: skip
    assert report.error_file is not None
    with report.error_file.open() as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == 9
    assert ("3", "1", "duplicate id") in {(row["line"], row["id"], row["reason"]) for row in listed}
    assert "'=cmd()" in {row["id"] for row in listed}


def test_names_of_no_category_are_cut_and_not_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.datasets import importing

    monkeypatch.setattr(importing, "MOST_UNKNOWN", 2)
    names = ["y" * 500, "cutlery", "cutlery", "china", "glass", "cutlery"]
    report = import_table(write_table(tmp_path / "shop", [(n, "Mug", "", name, "") for n, name in enumerate(names)]))
    assert report.unknown_categories == {"y" * 120: 1, "cutlery": 3, "others": 2}
    assert report.skipped == {"unknown category": 6}


@pytest.mark.parametrize(
    "entry", [b"\x01\x01\x00\x05", b"\x01\x1a\x00\x01", b"\x01\x32\x00\x05"], ids=["height", "resolution", "date"]
)
def test_a_photo_whose_metadata_break_the_decoder_is_a_broken_photo(entry: bytes) -> None:
    exif = Image.Exif()
    exif.endian = ">"
    exif[0x112], exif[0x11A] = 6, 72.0  # turned; dots per inch, a ratio
    metadata = exif.tobytes().replace(b"\x01\x1a\x00\x05", entry)  # another tag, or another type
    assert entry in metadata
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "WEBP", exif=metadata)
    with pytest.raises(RowError) as refusal:
        small_copy(file.getvalue())
    assert refusal.value.reason == "broken photo"


def test_a_picture_of_too_many_pixels_is_refused(tmp_path: Path, settings: object) -> None:
    folder = write_table(tmp_path / "huge", [("1", "", "", "Beauty", "1.png")])
    (folder / "1.png").write_bytes(product_photo("PNG", (3000, 3000)))
    settings.UPLOAD_LIMIT_PIXELS = 1_000_000  # type: ignore[attr-defined]
    report = import_table(folder)
    assert (report.skipped, report.rows) == ({"photo too large": 1}, 1)


def test_a_photo_that_is_not_there_any_more_leaves_the_earlier_one(shop: Path) -> None:
    import_table(shop)
    before = Example.objects.get(external_id="1")
    (shop / "images-000.zip").unlink()
    report = import_table(shop)
    after = Example.objects.get(external_id="1")
    assert (after.photo, after.original_digest) == (before.photo, before.original_digest)
    assert (report.without_photo, report.outcome.updated) == ({"missing photo": 1}, 0)


def test_further_photos_and_further_rows_of_a_product_are_counted(tmp_path: Path) -> None:
    columns = ("Handle", "Title", "Body (HTML)", "Type", "Image Src")
    rows = [
        ("rake", "Garden rake", "<p>Steel &amp; oak</p>", "beauty", "1.jpg, 2.jpg"),
        ("rake", "", "", "", "3.jpg"),
        ("mug", "Mug", "", "beauty", "https://img.invalid/1.jpg"),
        ("rake", "Garden rake", "", "beauty", ""),
    ]
    folder = write_table(tmp_path / "shop", rows, columns=columns)
    (folder / "1.jpg").write_bytes(plain_jpeg())
    report = import_table(folder)
    assert (report.further_photos, report.further_rows, report.rows) == (1, 1, 4)
    assert (report.skipped, report.without_photo) == ({"duplicate id": 1}, {"photo is an address": 1})
    assert Example.objects.get(external_id="rake").description == "Steel & oak"


def test_a_map_translates_and_leaves_out(tmp_path: Path) -> None:
    folder = write_table(
        tmp_path / "shop", [("1", "Mug", "", "Tassen", ""), ("2", "Rest", "", "Rest", ""), ("3", "X", "", "x", "")]
    )
    table = tmp_path / "map.csv"
    table.write_text("name,category\nTASSEN,Beauty\nRest,\n", encoding="utf-8")
    assert import_table(folder, map=table).skipped == {"left out by the map": 1, "unknown category": 1}
    table.write_text("name,category\nTassen,Crockery\n", encoding="utf-8")
    with pytest.raises(SourceError, match="line 2.*Crockery"):
        import_table(folder, map=table)


def test_unknown_names_become_categories_on_request(tmp_path: Path) -> None:
    folder = write_table(
        tmp_path / "shop", [("1", "Mug", "", "Küche", ""), ("2", "Cup", "", "küche", ""), ("3", "ก", "", "เสื้อ", "")]
    )
    report = import_table(folder, creates=True)
    assert report.created_categories == ["Küche", "เสื้อ"]
    assert Category.objects.get(name="Küche").slug == "kuche"
    assert Example.objects.count() == 3


def test_a_changed_row_is_updated_and_keeps_its_split(tmp_path: Path) -> None:
    folder = write_table(tmp_path / "shop", [("1", "Rake", "", "Beauty", "")])
    import_table(folder)
    before = Example.objects.get()
    write_table(folder, [("1", "Completely other words here", "new", "Pet Supplies", "")])
    assert import_table(folder).outcome.updated == 1
    after = Example.objects.get()
    assert (after.split, after.title, after.category_id) == (
        before.split, "Completely other words here", shelf("Pet Supplies"),
    )  # fmt: skip


def test_a_product_similar_to_two_splits_is_left_out_and_a_changed_one_too(tmp_path: Path) -> None:
    folder = write_table(
        tmp_path / "shop",
        [("1", "oak table", "", "Beauty", "a.jpg"), ("2", "steel rake garden tool red", "", "Beauty", "b.jpg")],
    )
    (folder / "a.jpg").write_bytes(plain_jpeg("red"))
    (folder / "b.jpg").write_bytes(plain_jpeg("blue"))
    import_table(folder)
    Example.objects.filter(external_id="1").update(split="train")
    Example.objects.filter(external_id="2").update(split="test")
    rows = [("3", "steel rake garden tool blue", "", "Beauty", "a.jpg")]
    write_table(folder, [("3", "steel rake garden tool red XL", "", "Beauty", "a.jpg")])
    assert import_table(folder).outcome.added == {Split.BRIDGE: 1}
    # What was in training and takes a test row's photo may not stay.
    write_table(folder, [("1", "oak table", "", "Beauty", "b.jpg"), *rows])
    import_table(folder)
    assert Example.objects.get(external_id="1").split == Split.BRIDGE


def test_the_bands_of_a_title_are_handed_on(tmp_path: Path) -> None:
    folder = write_table(
        tmp_path / "shop",
        [("1", "steel garden rake long", "", "Beauty", ""), ("2", "Rake steel garden, long 2", "", "Beauty", "")],
    )
    import_table(folder)
    first, second = Example.objects.order_by("pk")
    assert len(first.bands) and second.bands == []
    write_table(folder, [("1", "green tea", "", "Beauty", "")])
    import_table(folder)
    second.refresh_from_db()
    assert second.bands == first.bands
    write_table(folder, [("3", "steel garden rake long red", "", "Beauty", "")])
    import_table(folder)
    assert Example.objects.get(external_id="3").split == second.split


def test_growing_data_moves_no_row_and_puts_no_near_duplicates_in_two_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random titles with near twins, photos that repeat and untitled groups come in over three imports."""
    from training.datasets import importing

    monkeypatch.setattr(importing, "ROWS_AT_ONCE", 70)
    choice = random.Random(5)
    vocabulary = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in ("nt", "sk", "rp")]
    columns = ("id", "title", "description", "category", "image", "group")
    folder = tmp_path / "grow"
    folder.mkdir()
    for shade in range(40):
        (folder / f"{shade}.jpg").write_bytes(plain_jpeg((6 * shade, 255 - 6 * shade, 90)))
    rows: list[tuple[str, ...]] = []
    parts: dict[str, str] = {}
    for _import in range(3):
        for _row in range(200):
            if rows and choice.random() < 0.4:
                some = choice.choice(rows)[1].split()
                some.insert(choice.randint(0, len(some)), choice.choice([*vocabulary, "5", "XL"]))
            else:
                some = choice.sample(vocabulary, choice.randint(0, 9))
            image = f"{choice.randrange(40)}.jpg" if not some or choice.random() < 0.05 else ""
            group = f"kind {choice.randrange(4)}" if not some else ""
            rows.append((str(len(rows)), " ".join(some), "", "Beauty", image, group))
        write_table(folder, rows, columns=columns)
        import_table(folder)
        found = dict(Example.objects.values_list("external_id", "split"))
        assert {id: found[id] for id in parts} == parts
        parts = found
    examples = [example for example in Example.objects.all() if example.split != Split.BRIDGE]
    shared = defaultdict(set)
    for example in examples:
        shared["photo", example.photo_digest].add(example.split)
        shared["group", example.group].add(example.split)
    assert [key for key, splits in shared.items() if key[1] and len(splits) > 1] == []
    assert {example.split for example in examples} == {"train", "validation", "test"}
    for number, example in enumerate(examples):
        for other in examples[:number]:
            if are_near_duplicates(comparison_words(example), comparison_words(other)):
                assert example.split == other.split, (example.title, other.title)


def test_titles_that_everybody_uses_do_not_slow_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.datasets import examples

    monkeypatch.setattr(examples, "MOST_CANDIDATES", 5)
    rows = [
        (str(i), f"blue cotton shirt for men {chr(97 + i % 26)}{chr(97 + i // 26)}", "", "Beauty", "")
        for i in range(120)
    ]
    import_table(write_table(tmp_path / "many", rows))
    assert Example.objects.count() == 120


def test_the_command_imports_sets_and_says_what_it_did(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_table(tmp_path / "other", [("1", "Soap", "", "nowhere", "")])
    call_command("import_products", shop, other)
    out, err = capsys.readouterr()
    assert "unknown category" in out and "'nowhere' (1)" in out and "import-errors-other.csv" in out
    assert "100%" in err
    with pytest.raises(CommandError, match="--category-level 0"):
        call_command("import_products", shop, category_level=0)
    with pytest.raises(CommandError, match="--source"):
        call_command("import_products", shop, other, source="one")
    with pytest.raises(CommandError, match="no column 'shelf'"):
        call_command("import_products", shop, category_column="shelf")
    with pytest.raises(CommandError, match="feedback"):
        call_command("import_products", shop, source="feedback")


def test_the_command_offers_a_level_and_names_an_encoding_and_a_map_without_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("1", "Küchentuch", "", "Heim > Beauty", "a.jpg"), ("2", "Bär", "", "Shop, Toys &amp; Games", "")]
    folder = write_table(tmp_path / "shop", rows, encoding="cp1252")
    (tmp_path / "map.csv").write_text("Tassen,beauty\n")
    call_command("import_products", folder, map=tmp_path / "map.csv")
    out, err = capsys.readouterr()
    assert "read as cp1252" in err and "matches no category of this file" in out
    assert "2 of these rows have paths or lists of categories: --category-level -1 finds the category of 2." in out
    call_command("import_products", folder, category_level=2, encoding="cp1252")
    out, err = capsys.readouterr()
    assert "imported without their photo" in out and "missing photo" in out
    write_table(folder, [("1", "Vase", "", "Heim > Deko", "")])
    call_command("import_products", folder)
    assert "1 reads 'Heim'; --category-level 2 reads 'Deko', none of which is a category" in capsys.readouterr().out


def test_real_listings_leave_no_near_duplicates_in_two_splits(data_folder: Path) -> None:
    import_table(data_folder / "amazon_us_sample", category="mapped18")
    import_table(data_folder / "flipkart_multimodal", category="mapped18")
    examples = list(Example.objects.in_a_split())
    assert len(examples) > 1_000
    digests = defaultdict(set)
    for number, example in enumerate(examples):
        digests[example.photo_digest].add(example.split)
        for other in examples[:number]:
            if example.split != other.split:
                assert not are_near_duplicates(comparison_words(example), comparison_words(other)), (
                    example.title,
                    other.title,
                )
    assert not [digest for digest, splits in digests.items() if digest and len(splits) > 1]
