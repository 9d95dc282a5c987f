import codecs
import csv
import gzip
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.tables.dialect import LONGEST_ROW
from common.tables.errors import RowError, SourceError
from common.tables.reader import ProductFile, ProductPhoto, SourceRow
from tests.support.product_files import plain_jpeg, write_table, write_zip

LIMIT = 100_000


def rows(folder: Path, **columns: str) -> list[SourceRow]:
    with ProductFile(folder, columns) as products:
        return [row for row in products if isinstance(row, SourceRow)]


def photo(folder: Path, number: int = 0) -> bytes | None:
    found = full_photo(folder, number)
    return found.content if found else None


def full_photo(folder: Path, number: int = 0) -> ProductPhoto | None:
    with ProductFile(folder) as products:
        return products.photo([row for row in products if isinstance(row, SourceRow)][number], limit=LIMIT)


def read_text(folder: Path, text: str, encoding: str = "utf-8") -> list[tuple[str, str] | str]:
    """Return id and title of each row of a table, or why it can't be read."""
    (folder / "products.csv").write_bytes(text.encode(encoding))
    found: list[tuple[str, str] | str] = []
    with ProductFile(folder) as products:
        for row in products:
            found.append((row.id, row.title) if isinstance(row, SourceRow) else f"{row[0]}: {row[1].reason}")
        assert products.rows == len(found)
    return found


def why_no_photo(folder: Path) -> str:
    with pytest.raises(RowError) as refusal:
        photo(folder)
    return refusal.value.reason


def test_a_table_of_kaggle_finds_its_columns_and_photos_by_id(tmp_path: Path) -> None:
    columns = ("ImgId", "title", "description", "categories")
    write_table(tmp_path, [("B01", "Rake", "steel", "Garden")], columns=columns, name="data.csv")
    (tmp_path / "train" / "garden").mkdir(parents=True)
    (tmp_path / "train" / "garden" / "B01.jpg").write_bytes(plain_jpeg())
    (row,) = rows(tmp_path)
    assert (row.id, row.title, row.description, row.category) == ("B01", "Rake", "steel", "Garden")
    assert photo(tmp_path) == plain_jpeg()


def test_a_gzipped_table_with_zip_shards_is_read_in_place(tmp_path: Path) -> None:
    columns = ("id", "title", "description", "category", "image", "shard")
    row = ("1", "Thé", "two\nlines", "Grocery", "images/1.jpg", "images-000.zip")
    write_table(tmp_path, [row], columns=columns, name="products.csv.gz")
    write_zip(tmp_path / "images-000.zip", {"images/1.jpg": plain_jpeg("blue")})
    assert rows(tmp_path)[0].description == "two\nlines"
    assert photo(tmp_path) == plain_jpeg("blue")


def test_a_shard_that_was_unpacked_is_found_as_a_folder(tmp_path: Path) -> None:
    columns = ("id", "title", "description", "category", "image", "shard")
    write_table(tmp_path, [("1", "", "", "x", "images/1.jpg", "images-000.zip")], columns=columns)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(plain_jpeg())
    assert photo(tmp_path) == plain_jpeg()


def test_columns_can_be_named(tmp_path: Path) -> None:
    write_table(tmp_path, [("7", "A", "B")], columns=("id", "Label", "mapped18"))
    assert rows(tmp_path)[0].category == "A"
    assert rows(tmp_path, category="MAPPED18")[0].category == "B"
    with pytest.raises(SourceError, match="no column 'shelf'"):
        rows(tmp_path, category="shelf")


@pytest.mark.parametrize(
    ("columns", "word"), [(("title", "category"), "id"), (("id", "title"), "category"), ((), "empty")]
)
def test_a_table_that_can_not_be_imported_says_why(tmp_path: Path, columns: tuple[str, ...], word: str) -> None:
    write_table(tmp_path, [], columns=columns)
    with pytest.raises(SourceError, match=word):
        ProductFile(tmp_path)


def test_a_folder_without_one_table_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no csv"):
        ProductFile(tmp_path)
    write_table(tmp_path / "shop", [])
    with pytest.raises(SourceError, match="shop"):
        ProductFile(tmp_path)
    write_table(tmp_path, [], name="a.csv")
    write_table(tmp_path, [], name="b.csv")
    with pytest.raises(SourceError, match=r"a\.csv, b\.csv"):
        ProductFile(tmp_path)
    with pytest.raises(SourceError, match="no"):
        ProductFile(tmp_path / "nowhere")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_texts_survive_their_encoding(tmp_path: Path, encoding: str) -> None:
    write_table(tmp_path, [("1", "Café Müller", "", "x", "")], encoding=encoding)
    assert rows(tmp_path)[0].title == "Café Müller"
    assert (ProductFile(tmp_path).encoding == "cp1252") == (encoding == "latin-1")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_a_gzip_that_was_cut_off_is_refused_before_anything_is_read(tmp_path: Path, encoding: str) -> None:
    products = [(str(i), "é" * 50, "", "c", "") for i in range(500)]
    write_table(tmp_path, products, name="products.csv.gz", encoding=encoding)
    table = tmp_path / "products.csv.gz"
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(SourceError, match="whole"):
        ProductFile(tmp_path)


def test_a_line_that_is_no_row_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text("id,title,category\n1,a,x\n2,b,x,y,z\n3," + "c" * 1_100_000 + ",x\n4,d,x\n")
    with ProductFile(tmp_path) as products:
        found = list(products)
    assert [row.id if isinstance(row, SourceRow) else row[1].reason for row in found] == [
        "1", "unreadable line", "unreadable line", "4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "id;title;category\n1;Rake, steel;x\n",
        "id\ttitle\tcategory\n1\tRake, steel\tx\n",
        'id|title|category\r1|"Rake, steel"|x\r',
        "sep=;\r\nid;title;category\r\n1;Rake, steel;x\r\n",
        '"sep=,",,\nid,title,category\n1,"Rake, steel",x\n',
        '"id";"name, in English";"title";"category, main, first";"category"\n1;n;Rake, steel;x;y\n',
        'id,title,category,,,\n1,"Rake, steel",x,,,\n',
        'id,title,category\n1,"Rake, steel",x,,,\n',
        "\n,,\nid;title;category;\n\n1;Rake, steel;x;\n;;;\n \u00a0;;\n",
        "\ufeff ID ; Product Title ;CATEGORY\n1;Rake, steel;x\n",
        '"Product-ID","Product_Name","Category","id_2"\n1,"Rake, steel",x,9\n',
        "id;title;note;note;category\n1;Rake, steel;a;b;x\n",
    ],
)
def test_a_table_is_read_however_it_is_delimited(tmp_path: Path, text: str) -> None:
    assert read_text(tmp_path, text) == [("1", "Rake, steel")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('id,title,category\n1,"never closed\n2,b,x\n3,c,x\n', ["2: unclosed quotation mark", ("2", "b"), ("3", "c")]),
        ('id,title,category\n1,a,x\n2,"b,x\n', [("1", "a"), "3: unclosed quotation mark"]),
        ('id,title,category\n1,"a,x\n2,"b",x\n', ["2: unclosed quotation mark", ("2", "b")]),
        ('id,title,category\n1,"a,x\n2,b,x"\n3,c,x\n', ["2: unclosed quotation mark", ("2", "b"), ("3", "c")]),
        ('id,title,category\n1,"two\n\nlines, ""quoted""",x\n', [("1", 'two\n\nlines, "quoted"')]),
        ('id,title,category\n1,TV 5",x\n2,"TV" 5,x\n', [("1", 'TV 5"'), ("2", "TV 5")]),
    ],
)
def test_an_unclosed_quotation_mark_costs_its_own_line_only(
    tmp_path: Path, text: str, expected: list[tuple[str, str] | str]
) -> None:
    assert read_text(tmp_path, text) == expected


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"))), max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_program_writes_as_csv_is_what_is_read(
    tmp_path: Path, table: list[list[str]], delimiter: str, encoding: str, line_end: str
) -> None:
    written = [(str(number), " ".join(cells), "x") for number, cells in enumerate(table)]
    with (tmp_path / "products.csv").open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter, lineterminator=line_end).writerows(
            [("id", "title", "category"), *written]
        )
    assert [(row.id, row.title, row.category) for row in rows(tmp_path)] == written


def test_a_table_of_unclosed_quotation_marks_is_refused_with_a_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="more than 100 quotation marks .* line 102"):
        read_text(tmp_path, "id,title,category\n" + 'a","b\n' * 5_000)


def test_a_column_that_is_there_twice_is_refused_unless_one_is_named(tmp_path: Path) -> None:
    columns = ("id", "Title", "title ", "category")
    write_table(tmp_path, [("1", "a", "b", "x")], columns=columns)
    with pytest.raises(SourceError, match="2 columns 'Title': the columns 2, 3. Rename"):
        rows(tmp_path)
    assert rows(tmp_path, title="Title")[0].title == "a"


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"PK\x03\x04...", "Excel workbook"), (b"\xd0\xcf\x11\xe0\xa1", "old Excel"), (b"%PDF-1.7", "PDF"),
     (b"id,category\n1,\0\0\0\0\0\0\0\0\0", "no text")],
)  # fmt: skip
def test_another_kind_of_file_says_what_it_is(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "products.csv").write_bytes(content)
    with pytest.raises(SourceError, match=word):
        ProductFile(tmp_path)


def test_whether_a_table_is_gzipped_says_its_content(tmp_path: Path) -> None:
    write_table(tmp_path, [("1", "Rake", "", "x", "")])
    plain = (tmp_path / "products.csv").read_bytes()
    (tmp_path / "products.csv").write_bytes(gzip.compress(plain))
    (tmp_path / "plain.csv.gz").write_bytes(plain)
    assert rows(tmp_path)[0].title == rows(tmp_path / "plain.csv.gz")[0].title == "Rake"


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "/etc/passwd.jpg", "images/../../secret.jpg", "..\\secret.jpg", "C:x.jpg"]
)
def test_a_name_that_leads_out_of_the_folder_is_no_photo(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(plain_jpeg())
    assert why_no_photo(write_table(tmp_path / "shop", [("1", "", "", "x", name)])) == "missing photo"


def test_a_link_that_leads_out_of_the_folder_is_no_photo(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(plain_jpeg())
    folder = write_table(tmp_path / "shop", [("1", "", "", "x", "1.jpg")])
    (folder / "1.jpg").symlink_to(tmp_path / "secret.jpg")
    assert why_no_photo(folder) == "missing photo"


def test_a_member_that_inflates_is_not_read(tmp_path: Path) -> None:
    write_table(tmp_path, [("1", "", "", "x", "1.jpg")])
    write_zip(tmp_path / "images.zip", {"1.jpg": b"\0" * (LIMIT + 1)}, zipfile.ZIP_DEFLATED)
    assert why_no_photo(tmp_path) == "photo too large"
    # A directory that lies about the size.
    archive = tmp_path / "images.zip"
    small = (LIMIT // 2).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace((LIMIT + 1).to_bytes(4, "little"), small))
    assert why_no_photo(tmp_path) in ("photo too large", "broken photo")


def test_an_archive_that_is_none_fails_its_rows_only(tmp_path: Path) -> None:
    write_table(tmp_path, [("1", "", "", "x", "1.jpg")])
    (tmp_path / "images.zip").write_bytes(b"not a zip")
    assert why_no_photo(tmp_path) == "unreadable archive"


def test_a_row_without_an_image_has_none_and_one_that_is_not_there_is_missing(tmp_path: Path) -> None:
    write_table(tmp_path, [("1", "a", "", "x", ""), ("2", "b", "", "x", "2.jpg")])
    assert photo(tmp_path, 0) is None
    with pytest.raises(RowError, match=r"2\.jpg"):
        photo(tmp_path, 1)


@pytest.mark.parametrize("repeated", ["x", "x,", '","\n'], ids=["a cell", "a line", "a row of short lines"])
def test_a_table_that_inflates_to_a_row_without_an_end_is_refused(tmp_path: Path, repeated: str) -> None:
    content = 'id,category,title\n1,x,"' + repeated * (LONGEST_ROW // len(repeated) + 1)
    (tmp_path / "products.csv.gz").write_bytes(gzip.compress(content.encode()))
    with pytest.raises(SourceError, match="no table"):
        ProductFile(tmp_path)


def test_long_rows_in_a_row_are_read(tmp_path: Path) -> None:
    write_table(tmp_path, [(number, "x" * 900_000, "y" * 900_000, "c", "") for number in range(4)])
    assert [len(row.title) for row in rows(tmp_path)] == [900_000] * 4


@pytest.mark.parametrize("body", [b"a", b"\x00\xd8\x00\x00"], ids=["half a letter", "half a pair"])
def test_a_utf_16_table_that_is_broken_says_so(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "products.csv").write_bytes(codecs.BOM_UTF16_LE + "id,category\n1,".encode("utf-16-le") + body)
    with pytest.raises(SourceError, match="UTF-16"):
        ProductFile(tmp_path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_broken_member_fails_its_row_only(tmp_path: Path, compression: int) -> None:
    write_table(tmp_path, [("1", "", "", "x", "1.jpg")])
    write_zip(tmp_path / "images.zip", {"1.jpg": plain_jpeg(side=64)}, compression)
    archive = tmp_path / "images.zip"
    content = bytearray(archive.read_bytes())
    start = 30 + len("1.jpg")  # behind the member's header
    content[start : start + 40] = b"\xff" * 40
    archive.write_bytes(content)
    assert why_no_photo(tmp_path) == "broken photo"


@pytest.mark.parametrize(
    ("cell", "others"),
    [
        ("one.jpg, two.jpg", 1),
        ("gone.jpg|one.jpg;two.jpg", 2),
        ('["https://img.invalid/1.jpg", "one.jpg"]', 1),
        ("['one.jpg', 'two.jpg']", 1),
        ("one.jpg\ntwo.jpg", 1),
        ("comma, in it.jpg", 0),
        ("/one.jpg", 0),
    ],
)
def test_the_first_of_several_photos_that_exists_is_taken_and_the_others_are_counted(
    tmp_path: Path, cell: str, others: int
) -> None:
    write_table(tmp_path, [("1", "", "", "x", cell)])
    for name in ("one.jpg", "two.jpg", "comma, in it.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    found = full_photo(tmp_path)
    assert found is not None and found.others == others
    assert found.content == (b"one.jpg" if "one" in cell else b"comma, in it.jpg")


@pytest.mark.parametrize("cell", ["https://img.invalid/a.jpg", "//cdn.invalid/a.jpg, //cdn.invalid/b.jpg"])
def test_an_address_is_no_photo_beside_the_table(tmp_path: Path, cell: str) -> None:
    assert why_no_photo(write_table(tmp_path, [("1", "", "", "x", cell)])) == "photo is an address"


@pytest.mark.parametrize("cell", ["nan", "NULL", "N/A", " ", "no_selection"])
def test_a_placeholder_is_no_photo(tmp_path: Path, cell: str) -> None:
    assert photo(write_table(tmp_path, [("1", "", "", "x", cell)])) is None


@pytest.mark.parametrize("is_zipped", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("IMG_1.jpg", "IMG_1.JPG"),
        ("img_1", "export/IMG_1.Jpeg"),
        ("red/1.jpg", "export/Red/1.jpg"),
        ("caf\u00e9.jpg", "CAFE\u0301.jpg"),
        ("r\u00f8d\\stra\u00dfe.JPG", "R\u00d8D/STRASSE.jpg"),
        ("./1.jpg", "1.jpg"),
    ],
)
def test_a_photo_is_found_whatever_the_case_form_and_root_of_its_name(
    tmp_path: Path, name: str, stored: str, is_zipped: bool
) -> None:
    write_table(tmp_path, [("1", "", "", "x", name)])
    if is_zipped:
        write_zip(tmp_path / "photos.zip", {stored: b"it", "__MACOSX/" + stored: b"not it", "other/2.jpg": b"nor"})
    else:
        (tmp_path / stored).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / stored).write_bytes(b"it")
    assert photo(tmp_path) == b"it"


def test_names_in_an_archive_of_a_mac_are_read_as_utf_8(tmp_path: Path) -> None:
    write_table(tmp_path, [("1", "", "", "x", "Müßli.jpg")])
    archive, raw = tmp_path / "photos.zip", "Müßli.jpg".encode()
    write_zip(archive, {"x" * len(raw): b"it"})
    archive.write_bytes(archive.read_bytes().replace(b"x" * len(raw), raw))
    assert photo(tmp_path) == b"it"


def test_a_name_that_fits_several_photos_is_an_error_unless_they_are_copies(tmp_path: Path) -> None:
    write_table(tmp_path, [("1", "", "", "x", "1.jpg"), ("2", "", "", "x", "blue/1.jpg"), ("3", "", "", "x", "2.JPG")])
    members = {"red/1.jpg": b"red", "blue/1.jpg": b"blue", "red/2.jpg": b"same", "blue/2.jpg": b"same"}
    write_zip(tmp_path / "photos.zip", members)
    assert why_no_photo(tmp_path) == "ambiguous photo"
    assert photo(tmp_path, 1) == b"blue"
    assert photo(tmp_path, 2) == b"same"
    (tmp_path / "1.jpg").write_bytes(b"beside the table")
    assert photo(tmp_path) == b"beside the table"


def test_of_two_spellings_the_one_that_is_written_is_meant(tmp_path: Path) -> None:
    write_table(tmp_path, [("1", "", "", "x", "a.jpg"), ("2", "", "", "x", "A.JPG"), ("3", "", "", "x", "A.jpg")])
    for name in ("a.jpg", "A.JPG"):
        (tmp_path / name).write_bytes(name.encode())
    assert (photo(tmp_path, 0), photo(tmp_path, 1)) == (b"a.jpg", b"A.JPG")
    with pytest.raises(RowError, match="fits 2 photos"):
        photo(tmp_path, 2)


def test_photos_that_lie_beside_a_table_without_an_image_column_are_not_missed(tmp_path: Path) -> None:
    columns = ("id", "title", "category")
    write_table(tmp_path, [("1", "a", "x"), ("2", "b", "x")], columns=columns)
    (tmp_path / "1.jpg").write_bytes(b"it")
    assert (photo(tmp_path, 0), photo(tmp_path, 1)) == (b"it", None)


def test_a_table_without_an_image_column_looks_once_for_photos(tmp_path: Path) -> None:
    write_table(tmp_path, [("1", "a", "", "x")], columns=("id", "title", "description", "category"))
    with ProductFile(tmp_path) as products:
        (row,) = [row for row in products if isinstance(row, SourceRow)]
        assert products.photo(row, limit=LIMIT) is None
        (tmp_path / "1.jpg").write_bytes(plain_jpeg())
        assert products.photo(row, limit=LIMIT) is None
