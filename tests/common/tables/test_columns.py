from pathlib import Path

import pytest

from common.tables.errors import SourceError
from common.tables.reader import ProductFile
from tests.support.product_files import write_table

# The headers of exports, cut to the columns that matter, and the places of id, title, description, category and photo.
EXPORTS = {
    "Shopify": (
        "Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Variant SKU,Image Src,Gift Card",
        "0 1 2 4 8",
    ),
    "WooCommerce": ("ID,Type,SKU,Name,Short description,Description,Categories,Tags,Images,Parent", "0 3 5 6 8"),
    "WooCommerce in German": ("ID,Typ,Artikelnummer,Name,Kurzbeschreibung,Beschreibung,Kategorien,Bilder", "0 3 5 6 7"),
    "WooCommerce in French": ("ID,Type,UGS,Nom,Description courte,Description,Catégories,Images", "0 3 5 6 7"),
    "WooCommerce in Russian": ("ID,Тип,Артикул,Имя,Описание,Категории,Изображения", "0 3 4 5 6"),
    "Magento": (
        "sku,attribute_set_code,product_type,categories,name,description,short_description,base_image",
        "0 4 5 3 7",
    ),
    "Amazon listings": (
        "item-name,item-description,listing-id,seller-sku,price,image-url,zshop-category1",
        "3 0 1 6 5",
    ),
    "Amazon data sets": ("asin,title,description,main_category,image", "0 1 2 3 4"),
    "Flipkart data sets": ("uniq_id,product_name,product_category_tree,image,description", "0 1 4 2 3"),
    "eBay": ("Item number,Title,Category name,Picture URL,Description", "0 1 4 2 3"),
    "Google Merchant": ("id,title,description,link,image link,google product category,brand", "0 1 2 5 4"),
    "Facebook": ("id,title,description,image_link,fb_product_category", "0 1 2 4 3"),
    "Squarespace": ("Product ID [Non Editable],Title,Description,SKU,Categories,Hosted Image URLs", "3 1 2 4 5"),
    "Wix": ("handleId,fieldType,name,description,productImageUrl,collection,sku", "6 2 3 5 4"),
    "BigCommerce": ("Product ID,Product Name,Product Description,Category,Product Image File - 1", "0 1 2 3 4"),
    "Ecwid": ("type,product_internal_id,product_sku,product_name,product_description,category1", "2 3 4 5 -"),
    "Sylius": ("Code,Locale,Name,Description,Short_description,Main_taxon,Taxons", "0 2 3 5 -"),
}


@pytest.mark.parametrize("shop", EXPORTS)
def test_exports_of_shops_need_no_options(shop: str, tmp_path: Path) -> None:
    names, places = EXPORTS[shop][0].split(","), EXPORTS[shop][1].split()
    folder = write_table(tmp_path, [[f"cell {number}" for number in range(len(names))]], columns=names)
    with ProductFile(folder) as products:
        (row,) = products
    expected = ["" if place == "-" else f"cell {place}" for place in places]
    assert [row.id, row.title, row.description, row.category, row.image] == expected  # type: ignore[union-attr]


def test_of_several_columns_the_first_with_content_is_read(tmp_path: Path) -> None:
    columns = ("id", "sku", "Product Category", "Type", "title", "name")
    rows = [("", "a", "", "", "", "x"), ("", "b", " ", "beauty", "t", "y")]
    with ProductFile(write_table(tmp_path, rows, columns=columns)) as products:
        assert (products.columns.id, products.columns.category, products.columns.title) == ("sku", "Type", "title")


def test_a_blank_table_still_has_its_columns(tmp_path: Path) -> None:
    with ProductFile(write_table(tmp_path, [], columns=("id", "sku", "category"))) as products:
        assert (products.columns.id, products.rows) == ("id", 0)


def test_a_table_of_texts_alone_is_read_where_nothing_else_is_needed(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text("Title\nRake, steel\nMug; red\n")
    with pytest.raises(SourceError, match="no column for the id"):
        ProductFile(tmp_path)
    with ProductFile(tmp_path, needed=()) as products:
        assert [row.title for row in products] == ["Rake, steel", "Mug; red"]  # type: ignore[union-attr]
