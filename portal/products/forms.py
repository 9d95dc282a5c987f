"""Forms of the seller's product pages."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from classifier.models import Category, Prediction
from portal.models import Product, ProductPhoto, ProductQuerySet
from portal.products import validators
from portal.products.photo_fields import PhotosForm
from portal.products.search import best_matches


class ProductForm(PhotosForm):
    """A product's text and photos."""

    title = forms.CharField(label=_("Title"), required=False, strip=False, widget=forms.TextInput)
    description = forms.CharField(
        label=_("Description"), required=False, strip=False, widget=forms.Textarea(attrs={"rows": 5})
    )
    sku = forms.CharField(label=_("SKU"), required=False, strip=False)

    def __init__(self, *args: Any, product: Product | None = None, **kwargs: Any) -> None:
        super().__init__(*args, product=product, **kwargs)
        for name in ("title", "description", "sku"):
            field = self.fields[name]
            field.validators = []  # the validators clean what CharField would reject
        if product:
            self.initial = {"title": product.title, "description": product.description, "sku": product.sku}

    def clean_title(self) -> str:
        return validators.validate_title(self.cleaned_data["title"])

    def clean_description(self) -> str:
        return validators.validate_description(self.cleaned_data["description"])

    def clean_sku(self) -> str:
        return validators.validate_sku(self.cleaned_data["sku"])

    def clean(self) -> dict[str, Any]:
        if not self.errors:
            validators.require_title_or_photo(title=self.cleaned_data["title"], has_photo=self.has_photo)
        return self.cleaned_data

    def save(self, service: Callable[..., Product], **more: Any) -> Product | None:
        """Store the photos and call a service with the form's values.

        Return None when a value is wrong, which the form's errors then say, also where the service found it.
        """
        self.is_valid()
        # Also when another field is wrong, and before the second check, because the storage may refuse the photos.
        self.store_photos()
        if not self.is_valid():
            return None
        try:
            return service(**self.values(), **more)
        except ProductPhoto.DoesNotExist:
            self.drop_lost_photos()
        except ValidationError as error:
            self.add_error(None, error)
        return None

    def values(self) -> dict[str, Any]:
        """Return what the services take."""
        values: dict[str, Any] = {name: self.cleaned_data[name] for name in ("title", "description", "sku")}
        values["photos"] = self.listed_photos
        if self.product:
            values["removed_photos"] = self.removed_photos
        return values


class AnswerForm(forms.Form):
    """One of the categories that the page offers, or none of them with a requested category."""

    category = forms.ModelChoiceField(
        Category.objects.none(), to_field_name="slug", required=False, empty_label=_("None of these fits")
    )
    wish = forms.CharField(required=False, strip=False)

    def __init__(self, *args: Any, prediction: Prediction, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["category"].queryset = Category.objects.offered_for(prediction)  # type: ignore[attr-defined]
        self.fields["wish"].validators = []

    def clean_category(self) -> Category | None:
        if "category" not in self.data:
            raise ValidationError(_("Choose a category, or say that none fits."), code="required")
        category: Category | None = self.cleaned_data["category"]
        return category

    def clean_wish(self) -> str:
        return validators.validate_requested_category(self.cleaned_data["wish"])


class AcceptsFormerStates:
    """A choice of a product's state that also accepts the earlier names of states."""

    def to_python(self, value: Any) -> Any:
        return super().to_python(Product.State.current_name(value))  # type: ignore[misc]


class StateField(AcceptsFormerStates, forms.ChoiceField):
    pass


class ProductFilter(forms.Form):
    """The filters in the address of the product list; invalid ones are ignored."""

    BEST_MATCH = "best"
    SORTS = {
        "newest": (("-created_at", "pk"), _("Newest first")),
        "oldest": (("created_at", "-pk"), _("Oldest first")),
        "title": (("title", "pk"), _("By title")),
    }
    SORT_CHOICES = [(key, label) for key, (_order, label) in SORTS.items()]

    q = forms.CharField(label=_("Search"), required=False, max_length=200)
    state = StateField(label=_("State"), required=False, choices=[("", _("Any state")), *Product.State.choices])
    category = forms.ModelChoiceField(
        Category.objects.all(),
        label=_("Category"),
        to_field_name="slug",
        required=False,
        empty_label=_("Any category"),
    )
    sort = forms.ChoiceField(
        label=_("Sort"), required=False, choices=[(BEST_MATCH, _("Best match first")), *SORT_CHOICES]
    )

    def find(self, products: ProductQuerySet, *, limit: int) -> ProductQuerySet | list[UUID]:
        """Return the products that match, sorted; the ids of the best `limit` where these come first."""
        self.full_clean()
        selected = self._select(products)
        if not self.is_search:
            return selected.order_by(*self._order)
        if self.sort_choice == self.BEST_MATCH:
            return best_matches(selected, self.cleaned_data["q"], limit=limit)
        return selected.matching(self.cleaned_data["q"]).order_by(*self._order)

    @property
    def is_search(self) -> bool:
        return bool(self.cleaned_data.get("q"))

    @property
    def sort_choices(self) -> list[tuple[str, Any]]:
        """Return the sorts that can be chosen, the usual one first: nothing matches best where nothing is searched."""
        return list(self.fields["sort"].choices) if self.is_search else self.SORT_CHOICES  # type: ignore[attr-defined]

    @property
    def sort_choice(self) -> str:
        """Return the sort that was chosen, or the usual one."""
        chosen = self.cleaned_data.get("sort")
        offered = [key for key, _label in self.sort_choices]
        return chosen if chosen in offered else offered[0]

    @property
    def _order(self) -> tuple[str, ...]:
        return self.SORTS[self.sort_choice][0]

    def _select(self, products: ProductQuerySet) -> ProductQuerySet:
        if state := self.cleaned_data.get("state"):
            products = products.in_state(Product.State(state))
        if category := self.cleaned_data.get("category"):
            products = products.filter(category=category)
        return products
