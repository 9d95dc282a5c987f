import csv
import gzip
import io
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from django.utils.text import slugify
from PIL import Image

from training.datasets import Product, assign_splits, open_images, read_products, slug

COLUMNS = ["id", "title", "description", "category", "image", "subcategory", "mapped18"]


def product(id: str, title: str = "", *, dataset: str = "shop", digest: str = "", group: str = "") -> Product:
    return Product(dataset, id, title, "", "beauty", group=group, digest=digest)


def parts(*products: Product) -> list[str]:
    return [item.split for item in assign_splits(products)]


def jpeg(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def shops(tmp_path: Path) -> Path:
    """Two data sets as they are handed out: one of pictures and words, one of words in a gzip."""
    pictured, worded = tmp_path / "pictured", tmp_path / "worded"
    pictured.mkdir()
    worded.mkdir()
    with zipfile.ZipFile(pictured / "images-000.zip", "w") as archive:
        archive.writestr("images/1.jpg", jpeg("red"))
        archive.writestr("images/2.jpg", jpeg("blue"))
    with (pictured / "products.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "shard"])
        writer.writerow(["1", "Rake", "", "x", "images/1.jpg", "", "Patio, Lawn & Garden", "images-000.zip"])
        writer.writerow(["2", "Sofa", "", "x", "images/2.jpg", "", "", "images-000.zip"])
        writer.writerow(["3", "Lost", "", "x", "images/3.jpg", "", "Beauty", "images-000.zip"])
    with gzip.open(worded / "products.csv.gz", "wt", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerow(["1", "Thé, vert", "two\nlines", "x", "", "", "Grocery & Gourmet Food"])
    return tmp_path


def test_labelled_products_are_read_and_the_rest_left_out(shops: Path) -> None:
    products = {(item.dataset, item.id): item for item in read_products(shops)}
    assert set(products) == {("pictured", "1"), ("pictured", "3"), ("worded", "1")}
    assert products["worded", "1"].description == "two\nlines"
    assert products["pictured", "1"].label == "patio-lawn-garden"
    assert not products["pictured", "3"].has_image


def test_photographs_are_read_straight_from_the_zip(shops: Path) -> None:
    pictured = [item for item in read_products(shops) if item.has_image]
    (image,) = open_images(pictured)
    assert image.convert("RGB").getpixel((4, 4)) == (254, 0, 0)


def test_a_folder_without_data_sets_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        read_products(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_products(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name", ["Cell Phones & Accessories", "Patio, Lawn & Garden", "Clothing, Shoes & Jewelry", "Beauty", "Café"]
)
def test_slugs_are_those_of_django(name: str) -> None:
    assert slug(name) == slugify(name)


def test_about_seventy_ten_and_twenty_in_a_hundred_fall_to_the_three_parts() -> None:
    counts = Counter(parts(*(product(str(number)) for number in range(10_000))))
    assert counts["train"] == pytest.approx(7_000, abs=150)
    assert counts["validation"] == pytest.approx(1_000, abs=100)


def test_a_product_stays_in_its_part_whatever_stands_beside_it() -> None:
    many = [product(str(number), f"thing {number:b}") for number in range(50)]
    backwards = {item.id: item.split for item in assign_splits(many[::-1])}
    assert {item.id: item.split for item in assign_splits(many)} == backwards


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Cotton socks for men, black, pack of 3", "COTTON SOCKS FOR MEN BLACK - PACK OF 12"),
        ("Blue cotton round neck t shirt slim fit men", "Red cotton round neck t shirt slim fit men"),
    ],
)
def test_titles_a_size_or_a_colour_apart_stay_together(first: str, second: str) -> None:
    for number in range(30):
        pair = product(f"a{number}", first), product(f"b{number}", second, dataset="other")
        assert len(set(parts(*pair))) == 1


def test_different_titles_are_split_apart() -> None:
    apart = [
        len(set(parts(product(f"a{number}", "steel garden rake"), product(f"b{number}", "green tea bags"))))
        for number in range(40)
    ]
    assert 2 in apart


def test_equal_photographs_and_one_fine_class_of_untitled_ones_stay_together() -> None:
    for number in range(30):
        same = product(f"a{number}", digest="d"), product(f"b{number}", digest="d", dataset="other")
        assert len(set(parts(*same))) == 1
        class_ = product(f"a{number}", group="apple"), product(f"b{number}", group="apple")
        assert len(set(parts(*class_))) == 1


def test_no_photograph_or_title_of_the_real_data_is_in_two_parts(data_folder: Path) -> None:
    products = read_products(data_folder)
    found = defaultdict(set)
    for item in products:
        found["photograph", item.digest].add(item.split)
        found["title", item.title.casefold()].add(item.split)
    shared = [key for key, splits in found.items() if key[1] and len(splits) > 1]
    assert [key for key in shared if any(letter.isalpha() for letter in key[1])] == []
    assert len({item.label for item in products}) == 18
