"""Validate and represent products, predictions, answers and categories."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.fields import get_error_detail
from rest_framework.reverse import reverse

from classifier.models import Category, Prediction
from classifier.taxonomy.search import FoundCategory
from common.text import DESCRIPTION_LIMIT, REQUESTED_CATEGORY_LIMIT, SKU_LIMIT, TITLE_LIMIT
from common.text_search import LONGEST_QUERY
from feedback.models import Feedback
from portal.api.strictness import StrictSerializer
from portal.models import Product, ProductPhoto, User
from portal.products import validators
from portal.products.confidence import Confidence, confidence
from portal.products.duplicates import DuplicateReason, find_duplicates
from portal.products.photos import MOST_PHOTOS

DUPLICATES_HELP = (
    "Up to 3 of your other products that look like this one: with the same SKU in any case, or with the same title and "
    "main photo, or, both without a photo, with the same title and description. Photos are compared once the "
    "prediction is `done`. It is a warning: nothing was rejected."
)
PHOTO_HELP = f"A JPEG, PNG, WebP or HEIC photo of at most {settings.UPLOAD_LIMIT_BYTES // 1_000_000} MB."


class CategorySerializer(serializers.ModelSerializer[Category]):
    found_as = serializers.SerializerMethodField(
        help_text="The alias or search term that `q` found, where it didn't find the name; else null."
    )

    class Meta:
        model = Category
        fields = ["slug", "name", "found_as"]

    def get_found_as(self, category: Category | FoundCategory) -> str | None:
        return category.found_as if isinstance(category, FoundCategory) else None


class CategoryQuerySerializer(serializers.Serializer[dict[str, str]]):
    """The query parameters of the list of categories."""

    q = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        max_length=LONGEST_QUERY,
        help_text=(
            "Beginnings or stems of words in a category's name, in another name for it, or in what belongs into it, "
            "such as `bike`. Typing errors are forgiven. The best category comes first."
        ),
    )


class SuggestionSerializer(serializers.Serializer[dict[str, Any]]):
    category = serializers.CharField()
    slug = serializers.SlugField()
    probability = serializers.FloatField(min_value=0, max_value=1)


class ModelViewSerializer(serializers.Serializer[dict[str, Any]]):
    version = serializers.CharField()
    probabilities = serializers.DictField(child=serializers.FloatField(), help_text="By category slug.")


class FeedbackSerializer(serializers.ModelSerializer[Feedback]):
    category = serializers.SlugRelatedField[Category](slug_field="slug", read_only=True, allow_null=True)
    rank = serializers.IntegerField(min_value=1, max_value=5, allow_null=True, read_only=True)

    class Meta:
        model = Feedback
        fields = ["verdict", "category", "rank", "wish", "answered_at"]
        read_only_fields = fields


class DuplicateSerializer(serializers.Serializer[dict[str, Any]]):
    id = serializers.UUIDField()
    reason = serializers.ChoiceField(choices=DuplicateReason.choices)


class PredictionSerializer(serializers.ModelSerializer[Prediction]):
    product = serializers.SerializerMethodField(
        help_text="The product's id; null once it was edited, and while it is deleted."
    )
    top5 = SuggestionSerializer(many=True, allow_null=True, read_only=True)
    confidence = serializers.SerializerMethodField(
        help_text="How sure the likeliest category is; null while `calibrated` is false."
    )
    calibrated = serializers.BooleanField(
        source="is_calibrated",
        read_only=True,
        help_text="Whether the probabilities of `top5` are calibrated. Their order is meaningful in any case.",
    )
    unusual = serializers.SerializerMethodField(
        help_text="The input that is unlike all training data, so that `top5` may be wrong; or null."
    )
    text = serializers.SerializerMethodField(help_text="The output of the text model.")
    image = serializers.SerializerMethodField(help_text="The output of the image model.")
    feedback = serializers.SerializerMethodField(help_text="Your answer.")
    duplicates = serializers.SerializerMethodField(help_text=DUPLICATES_HELP)

    class Meta:
        model = Prediction
        fields = [
            "id", "product", "state", "title", "description", "top5", "confidence", "calibrated", "unusual", "text",
            "image", "feedback", "duplicates", "error", "created_at", "finished_at",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.UUIDField(allow_null=True))
    def get_product(self, prediction: Prediction) -> str | None:
        product = _listed_product(prediction)
        return str(product.pk) if product else None

    @extend_schema_field(DuplicateSerializer(many=True))
    def get_duplicates(self, prediction: Prediction) -> list[dict[str, Any]]:
        product = _listed_product(prediction)
        return _duplicates(product, self.context["request"].user) if product else []

    @extend_schema_field(serializers.ChoiceField(choices=Confidence.choices, allow_null=True))
    def get_confidence(self, prediction: Prediction) -> str | None:
        return confidence(prediction.best["probability"]) if prediction.best and prediction.is_calibrated else None

    @extend_schema_field(serializers.ChoiceField(choices=Prediction.Unusual.choices, allow_null=True))
    def get_unusual(self, prediction: Prediction) -> str | None:
        return prediction.unusual or None

    @extend_schema_field(ModelViewSerializer(allow_null=True))
    def get_text(self, prediction: Prediction) -> dict[str, Any] | None:
        return _model_view(prediction.text_version, prediction.text_probabilities)

    @extend_schema_field(ModelViewSerializer(allow_null=True))
    def get_image(self, prediction: Prediction) -> dict[str, Any] | None:
        return _model_view(prediction.image_version, prediction.image_probabilities)

    @extend_schema_field(FeedbackSerializer(allow_null=True))
    def get_feedback(self, prediction: Prediction) -> dict[str, Any] | None:
        feedback = getattr(prediction, "feedback", None)
        return FeedbackSerializer(feedback).data if feedback else None


class GivenBoolean(serializers.BooleanField):
    """A boolean that rejects an empty value: in a form it would count as a field that was not sent."""

    def get_value(self, dictionary: Any) -> Any:
        return dictionary.get(self.field_name, serializers.empty)


class ProductValuesSerializer(StrictSerializer):
    """The values of a product, checked as the pages check them."""

    def get_fields(self) -> dict[str, Any]:
        return _without_limits(super().get_fields())

    def validate_title(self, value: str) -> str:
        return validators.validate_title(value)

    def validate_description(self, value: str) -> str:
        return validators.validate_description(value)

    def validate_sku(self, value: str) -> str:
        return validators.validate_sku(value)


class FlatListField(serializers.ListField):
    """A list whose errors are those of the field. In a form, the field is sent once for each value."""

    def run_child_validation(self, data: Any) -> Any:
        values = []
        for value in data:
            try:
                values.append(self.child.run_validation(value))
            except serializers.ValidationError as error:
                raise serializers.ValidationError(error.detail) from error
        return values


class ImagesField(FlatListField):
    """Photos, as repeated parts of a form."""

    child = serializers.FileField(allow_empty_file=True)

    def to_internal_value(self, data: Any) -> Any:
        images = super().to_internal_value(data if isinstance(data, list) else [data])
        validators.validate_photo_count(len(images))
        return images


class PredictionRequestSerializer(ProductValuesSerializer):
    """A title or an image is required; both together give the best result."""

    image = ImagesField(
        required=False,
        help_text=f"{PHOTO_HELP} Repeat the field for several, at most {MOST_PHOTOS}: models read the first.",
    )
    title = serializers.CharField(
        required=False, allow_blank=True, default="", help_text=f"At most {TITLE_LIMIT} characters."
    )
    description = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        help_text=f"At most {DESCRIPTION_LIMIT:,} characters.",
    )
    sku = serializers.CharField(
        required=False, allow_blank=True, default="", help_text=f"At most {SKU_LIMIT} characters."
    )
    bulk = GivenBoolean(
        required=False,
        default=False,
        help_text="Process this product after all products that a person is waiting for.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        validators.require_title_or_photo(title=attrs["title"], has_photo="image" in attrs)
        return attrs


class ProductChangesSerializer(ProductValuesSerializer):
    """The values to change; what is left out stays as it is. Other text or main photo means other suggestions."""

    title = serializers.CharField(required=False, allow_blank=True, help_text=f"At most {TITLE_LIMIT} characters.")
    description = serializers.CharField(
        required=False, allow_blank=True, help_text=f"At most {DESCRIPTION_LIMIT:,} characters."
    )
    sku = serializers.CharField(required=False, allow_blank=True, help_text=f"At most {SKU_LIMIT} characters.")
    photos = FlatListField(
        child=serializers.UUIDField(),
        required=False,
        help_text="The ids of the product's photos in the order that it gets, the main one first. Those that are left "
        "out are removed.",
    )
    remove_image = GivenBoolean(required=False, default=False, help_text="Remove all of the product's photos.")
    bulk = GivenBoolean(
        required=False,
        default=False,
        help_text="Process this product after all products that a person is waiting for.",
    )

    def validate_photos(self, keys: list[UUID]) -> list[UUID]:
        own = {photo.pk for photo in self.context["product"].photos.all()}
        for key in keys:
            if key not in own:
                raise serializers.ValidationError(_("The product has no photo %(id)s.") % {"id": key}, "unknown_photo")
        if len(set(keys)) < len(keys):
            raise serializers.ValidationError(_("Name each photo once."), "repeated_photo")
        return keys

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["remove_image"] and ("image" in attrs or "photos" in attrs):
            words = _("Name or send the photos that the product gets, or remove all, not both.")
            raise serializers.ValidationError({"remove_image": words}, "remove_and_replace")
        return attrs


class ProductChangesWithPhotoSerializer(ProductChangesSerializer):
    """The values to change, as a form, with or without other photos."""

    image = ImagesField(
        required=False,
        help_text=f"{PHOTO_HELP} Repeat the field for several. They replace the product's photos; with `photos` they "
        "come behind those.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        try:
            validators.validate_photo_count(len(attrs.get("photos", [])) + len(attrs.get("image", [])))
        except ValidationError as error:
            raise serializers.ValidationError({"image": get_error_detail(error)}) from error
        return attrs


class CategoryField(serializers.SlugRelatedField[Category]):
    """A category that the seller could choose for the prediction in the context."""

    def get_queryset(self) -> Any:
        prediction = self.context.get("prediction")
        return Category.objects.offered_for(prediction) if prediction else super().get_queryset()

    def run_validation(self, data: Any = serializers.empty) -> Any:
        # The base class takes an empty text for null, which would be the answer that no category fits.
        if data == "":
            raise serializers.ValidationError(
                _("This is empty. Send a category's slug, or null when no category fits."), "blank"
            )
        return super().run_validation(data)

    def to_internal_value(self, data: Any) -> Category:
        if isinstance(data, str) and "\0" in data:
            self.fail("invalid")  # PostgreSQL has no text with NUL
        return super().to_internal_value(data)


class AnswerSerializer(StrictSerializer):
    """The right category, or null with an optional wish."""

    category = CategoryField(
        slug_field="slug",
        queryset=Category.objects.active(),
        allow_null=True,
        help_text="The right category's slug, or null when none of the categories fits.",
    )
    wish = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        help_text=f"With null: the missing category in your words, at most {REQUESTED_CATEGORY_LIMIT} characters.",
    )

    def validate_wish(self, value: str) -> str:
        return validators.validate_requested_category(value)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["category"] and attrs["wish"]:
            words = _("A wish goes with null only: leave it out, or send null as the category.")
            raise serializers.ValidationError({"wish": words}, "wish_with_category")
        return attrs


class ProductPhotoSerializer(serializers.ModelSerializer[ProductPhoto]):
    url = serializers.SerializerMethodField(help_text="Where to fetch the photo, with your token.")

    class Meta:
        model = ProductPhoto
        fields = ["id", "url"]
        read_only_fields = fields

    @extend_schema_field(serializers.URLField())
    def get_url(self, photo: ProductPhoto) -> str:
        return reverse("api-product-photo", args=[photo.product_id, photo.pk], request=self.context.get("request"))


class ProductSerializer(serializers.ModelSerializer[Product]):
    photos = ProductPhotoSerializer(
        many=True, read_only=True, help_text="The main one, which models read, comes first."
    )
    category = serializers.SlugRelatedField[Category](slug_field="slug", read_only=True, allow_null=True)
    state = serializers.ChoiceField(choices=Product.State.choices, read_only=True)
    answer_is_older = serializers.BooleanField(
        read_only=True,
        help_text="Whether you gave your answer, and so `category`, before the last change of text or photo. It stays "
        "until you answer the new `prediction`.",
    )
    top5 = SuggestionSerializer(source="prediction.top5", many=True, allow_null=True, read_only=True)
    calibrated = serializers.BooleanField(
        source="prediction.is_calibrated",
        read_only=True,
        help_text="Whether the probabilities of `top5` are calibrated. Their order is meaningful in any case.",
    )

    class Meta:
        model = Product
        fields = [
            "id", "sku", "title", "description", "photos", "state", "category", "answer_is_older", "prediction", "top5",
            "calibrated", "created_at", "updated_at", "deleted_at",
        ]  # fmt: skip
        read_only_fields = fields
        extra_kwargs = {"deleted_at": {"help_text": "When the product was moved to the trash; or null."}}


class SingleProductSerializer(ProductSerializer):
    """A product as the operations about one product show it."""

    duplicates = serializers.SerializerMethodField(help_text=DUPLICATES_HELP)

    class Meta(ProductSerializer.Meta):
        fields = [*ProductSerializer.Meta.fields, "duplicates"]
        read_only_fields = fields

    @extend_schema_field(DuplicateSerializer(many=True))
    def get_duplicates(self, product: Product) -> list[dict[str, Any]]:
        return _duplicates(product, self.context["request"].user)


def _listed_product(prediction: Prediction) -> Product | None:
    """Return the product whose newest prediction this is, unless it is in the trash."""
    product: Product | None = getattr(prediction, "product", None)
    return product if product and product.deleted_at is None else None


def _duplicates(product: Product, seller: User) -> list[dict[str, Any]]:
    found = find_duplicates(product, seller=seller)
    return [{"id": str(duplicate.product.pk), "reason": duplicate.reason.value} for duplicate in found]


def _without_limits(fields: dict[str, Any]) -> dict[str, Any]:
    for name in ("title", "description", "sku"):
        fields[name].validators = []  # the rules strip what CharField would refuse
    return fields


def _model_view(version: Any, probabilities: dict[str, float] | None) -> dict[str, Any] | None:
    return {"version": version.name, "probabilities": probabilities} if version and probabilities else None
