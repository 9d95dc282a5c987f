from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core import serializers
from django.core.management import CommandError, call_command

from classifier.models import Category, CategoryAlias, Prediction
from classifier.models.taxonomy import TaxonomyVersion
from classifier.tasks import classify_pending
from classifier.taxonomy.exporting import export_tree
from classifier.taxonomy.files import read_tree
from classifier.taxonomy.search import find_categories
from classifier.taxonomy.tree import Tree, TreeNode
from classifier.taxonomy.versions import TaxonomyError, apply_version, draft_version, undo_version
from portal.models import Product, User
from portal.products.services import record_answer, submit_product
from training.datasets.category_lookup import CategoryLookup

pytestmark = pytest.mark.django_db

RECORDS = {"taxonomyversion", "taxonomychange", "categorybefore", "reassignment"}


def tree(*nodes: tuple[str, str, str]) -> Tree:
    found = Tree("shop", "2026-11")
    for key, name, parent in nodes:
        found.add(TreeNode(f"shop:{key}", name, parent and f"shop:{parent}", {"de": f"{name} (de)"}))
    return found


HOME = ("1", "Home", ""), ("2", "Kitchen", "1"), ("3", "Pans", "2"), ("4", "Garden", "1")


def applied(found: Tree, **options: Any) -> TaxonomyVersion:
    return apply_version(draft_version(tree=found, source="a test", **options))


def rows() -> dict[str, str]:
    """Return all rows of the database but the records of versions, by model."""
    models = [model for model in apps.get_models() if model._meta.model_name not in RECORDS]
    return {model._meta.label: serializers.serialize("json", model._base_manager.order_by("pk")) for model in models}


def product_in(category: str, seller: User) -> Product:
    product = submit_product(seller=seller, title="Frying pan")
    Product.objects.filter(pk=product.pk).update(category=Category.objects.get(slug=category))
    return product


def test_a_tree_is_added_beside_the_categories_that_exist() -> None:
    before = Category.objects.count()
    draft = draft_version(tree=tree(*HOME), source="a test")
    assert Category.objects.count() == before and draft.counts["add"] == 4
    apply_version(draft)
    pans = Category.objects.get(slug="shop:3")
    parent = Category.objects.get(slug="shop:2")
    assert (pans.parent, pans.depth, pans.path) == (parent, 3, f"{parent.path}{pans.pk}.")
    assert pans.names == {"de": "Pans (de)"}
    assert Category.objects.active().count() == before + 4


def test_the_tree_replaces_the_categories_and_undoing_gives_everything_back(seller: User) -> None:
    product_in("beauty", seller)
    product_in("pet-supplies", seller)
    before = rows()
    version = applied(
        tree(*HOME), redirects={"beauty": ["shop:4"], "pet-supplies": ["shop:2", "shop:3"]}, replaces_all=True
    )
    assert set(Category.objects.active().values_list("name", flat=True)) == {"Home", "Kitchen", "Pans", "Garden"}
    merged, split = Category.objects.get(slug="beauty"), Category.objects.get(slug="pet-supplies")
    assert (merged.state, merged.redirect and merged.redirect.slug) == ("redirected", "shop:4")
    assert split.state == "retired"
    assert sorted(Product.objects.values_list("category__slug", flat=True)) == ["pet-supplies", "shop:4"]
    undo_version(version)
    assert rows() == before


def test_a_draft_says_how_many_rows_each_change_touches(seller: User) -> None:
    product_in("beauty", seller)
    aliases = CategoryAlias.objects.filter(category__slug="beauty").count()
    draft = draft_version(tree=tree(*HOME), source="a test", redirects={"beauty": ["shop:4"]})
    change = draft.changes.get(kind="merge")
    assert (change.touched["aliases"], change.touched["products"]) == (aliases, 1)
    assert (change.before, change.after) == ("Beauty", "Home > Garden")


def test_a_moved_category_takes_its_children_along() -> None:
    applied(tree(*HOME))
    applied(tree(("1", "Home", ""), ("2", "Kitchenware", ""), ("3", "Pans", "2"), ("4", "Garden", "1")))
    pans, kitchen = Category.objects.get(slug="shop:3"), Category.objects.get(slug="shop:2")
    assert (kitchen.name, kitchen.depth, pans.path) == ("Kitchenware", 1, f"{kitchen.pk}.{pans.pk}.")


def test_two_children_may_have_the_same_name_under_different_parents_only() -> None:
    applied(tree(("1", "Men", ""), ("2", "Shoes", "1"), ("3", "Women", ""), ("4", "Shoes", "3")))
    assert Category.objects.filter(name="Shoes").count() == 2


def test_a_redirect_to_a_category_that_is_merged_later_leads_to_the_last_one(seller: User) -> None:
    applied(tree(*HOME), redirects={"beauty": ["shop:3"]})
    first_three = [node for node in HOME if node[0] != "3"]
    applied(tree(*first_three), redirects={"shop:3": ["shop:2"]})
    assert Category.objects.get(slug="beauty").redirect == Category.objects.get(slug="shop:2")


def test_a_version_is_undone_only_when_nothing_came_after_it(seller: User) -> None:
    first = applied(tree(*HOME))
    applied(tree(*HOME, ("5", "Pots", "2")))
    with pytest.raises(TaxonomyError, match="applied last"):
        undo_version(first)


def test_a_version_whose_categories_are_in_use_is_not_undone(seller: User) -> None:
    version = applied(tree(*HOME))
    product_in("shop:3", seller)
    with pytest.raises(TaxonomyError, match="“Pans” came with this version and is in use since: 1 products"):
        undo_version(version)
    assert Category.objects.active().filter(slug="shop:3").exists()


def test_a_draft_of_categories_that_have_changed_since_is_refused() -> None:
    stale = draft_version(tree=tree(*HOME), source="a test")
    applied(tree(*HOME))
    with pytest.raises(TaxonomyError, match="changed since this draft"):
        apply_version(stale)


def test_a_row_that_was_changed_since_keeps_its_category(seller: User) -> None:
    product = product_in("beauty", seller)
    version = applied(tree(*HOME), redirects={"beauty": ["shop:4"]})
    Product.objects.filter(pk=product.pk).update(category=Category.objects.get(slug="automotive"))
    undo_version(version)
    product.refresh_from_db()
    assert product.category and product.category.slug == "automotive"


@pytest.mark.parametrize("name", ["tree.json", "tree.csv"])
def test_an_exported_tree_changes_nothing_when_it_is_imported(tmp_path: Path, name: str) -> None:
    applied(tree(*HOME))
    exported = Category.objects.active().count()
    assert export_tree(tmp_path / name) == exported
    draft = draft_version(tree=read_tree(tmp_path / name), source="a test", replaces_all=True)
    assert not any(draft.counts.values()) and not draft.problems


def test_the_command_imports_lists_and_undoes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.csv").write_text("path\nHome > Pans\nHome > Pots\n")
    call_command("taxonomy", "diff", tmp_path / "own.csv")
    assert "Changes: 3 add." in capsys.readouterr().out
    call_command("taxonomy", "import", tmp_path / "own.csv")
    assert Category.objects.filter(slug="own:home/pots").exists()
    call_command("taxonomy", "list")
    assert "applied  own.csv: 3 add" in capsys.readouterr().out
    call_command("taxonomy", "undo")
    assert not Category.objects.filter(slug="own:home/pots").exists()
    with pytest.raises(CommandError, match="nothing to undo"):
        call_command("taxonomy", "undo")


def test_models_answers_and_imports_follow_a_redirect(seller: User) -> None:
    applied(tree(*HOME), redirects={"musical-instruments": ["shop:4"]})
    product = submit_product(seller=seller, title="Yamaha acoustic guitar with case")
    classify_pending()
    prediction = Prediction.objects.get(pk=product.prediction_id)
    assert prediction.best and prediction.best["slug"] == "shop:4"
    record_answer(prediction=prediction, category=Category.objects.get(slug="musical-instruments"))
    product.refresh_from_db()
    assert product.category and product.category.slug == "shop:4"
    garden = Category.objects.get(slug="shop:4")
    assert CategoryLookup().find("Musical Instruments") == garden.pk
    assert [found.slug for found in find_categories("guitar", limit=5).categories][:1] == ["shop:4"]
