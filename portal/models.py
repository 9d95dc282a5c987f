"""Users, products and their photos."""

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models import Exists, F, OuterRef, Q, Value
from django.db.models.functions import Lower
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from classifier.models import Category, Prediction
from feedback.models import PREDICTIONS_VECTORS, Feedback
from portal.accounts.models import TokenDetails as TokenDetails
from portal.api.models import IdempotentRequest as IdempotentRequest
from portal.privacy.models import Export as Export
from portal.privacy.models import PrivacyEvent as PrivacyEvent
from portal.products.search import ProductQuery, found_by

FORMER_STATE_NAMES = {"open": "needs_answer", "shelved": "categorised", "homeless": "no_category"}


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        if not email:
            raise ValueError("A user needs an e-mail address.")
        user = self.model(email=email.lower(), **fields)
        user.set_password(password)
        user.save()
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email__iexact=username)


class User(AbstractBaseUser, PermissionsMixin):
    """A person, identified by an e-mail address. Permissions come from groups: see portal/accounts/roles.py."""

    email = models.EmailField(
        _("e-mail address"), unique=True, error_messages={"unique": _("This e-mail address is taken.")}
    )
    name = models.CharField(_("name"), max_length=120, blank=True)
    is_active = models.BooleanField(_("active"), default=True)
    is_staff = models.BooleanField(_("staff"), default=False, help_text=_("May open the admin."))
    date_joined = models.DateTimeField(_("joined"), default=timezone.now, editable=False)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        constraints = [models.CheckConstraint(condition=Q(email=Lower("email")), name="email_is_lower_case")]

    def __str__(self) -> str:
        return self.name or self.email

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.email = self.email.lower()  # as allauth looks it up
        super().save(*args, **kwargs)


class ProductQuerySet(models.QuerySet["Product"]):
    def for_seller(self, seller: User) -> Self:
        """Select what a seller lists, without the trash."""
        return self.filter(seller=seller, deleted_at=None)

    def trash_of(self, seller: User) -> Self:
        """Select what a seller has deleted and can still restore."""
        return self.trashed().filter(seller=seller)

    def trashed(self) -> Self:
        return self.filter(deleted_at__isnull=False)

    def with_sku(self, sku: str) -> Self:
        """Select products with this SKU, whatever its case."""
        # Without the empty ones, as their index.
        return self.exclude(sku="").alias(lower_sku=Lower("sku")).filter(lower_sku=Lower(Value(sku)))

    def with_answers(self) -> Self:
        """Load what a list shows, without the embeddings."""
        return self.select_related("prediction", "category", "answer").defer(
            "lexemes",
            *PREDICTIONS_VECTORS,
            "prediction__probabilities",
            "prediction__text_probabilities",
            "prediction__image_probabilities",
        )

    def in_state(self, state: "Product.State") -> Self:
        return self.filter(_in_state(state))

    def next_to_answer(self, product: "Product") -> "Product | None":
        """Return the product below this one in the list that needs an answer, or else the newest such product."""
        unanswered = self.in_state(Product.State.NEEDS_ANSWER).exclude(pk=product.pk).order_by("-created_at", "pk")
        return unanswered.filter(created_at__lte=product.created_at).first() or unanswered.first()

    def matching(self, text: str) -> Self:
        """Return the products with a text as their SKU, or with all its words: see portal/products/search.py."""
        return self.filter(found_by(ProductQuery.of(text).anywhere))

    def whole(self, ids: Iterable[uuid.UUID]) -> "list[Product]":
        """Return the products with these ids as `with_answers` has them, in the order of the ids."""
        ids = list(ids)
        products = self.with_answers().in_bulk(ids)
        return [products[pk] for pk in ids if pk in products]


class Product(models.Model):
    """What a seller lists.

    Its `prediction` is the newest one: an edit creates another. Its `answer` is the seller's newest one and `category`
    what it chose; both outlive an edit, so the answer may be to an earlier prediction. One with `deleted_at` is in the
    trash: its seller can restore it for TRASH_DAYS.
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        FAILED = "failed", _("Failed")
        NEEDS_ANSWER = "needs_answer", _("Needs your answer")
        CATEGORISED = "categorised", _("Category chosen")
        NO_CATEGORY = "no_category", _("No category fits")

        @classmethod
        def current_name(cls, value: str) -> str:
            """Return the present name of a state: bookmarks and programs may still filter by an earlier one."""
            return FORMER_STATE_NAMES.get(value, value)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    seller = models.ForeignKey(User, models.CASCADE, related_name="products", verbose_name=_("seller"))
    sku = models.CharField(_("SKU"), max_length=64, blank=True)
    title = models.CharField(_("title"), max_length=300, blank=True)
    description = models.TextField(_("description"), max_length=5000, blank=True)
    language = models.CharField(
        max_length=8,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text="Of title and description, as ISO 639-1; empty where it was not recognised.",
    )
    lexemes = SearchVectorField(null=True, editable=False, help_text="Set by a trigger.")
    # The names of the first of `photos`, the one that models read: lists and predictions need no other table.
    photo_large = models.CharField(max_length=120, blank=True)
    photo_small = models.CharField(max_length=120, blank=True)
    prediction = models.OneToOneField(
        Prediction, models.RESTRICT, related_name="product", verbose_name=_("newest prediction")
    )
    category = models.ForeignKey(Category, models.PROTECT, null=True, blank=True, verbose_name=_("chosen category"))
    answer = models.OneToOneField(
        Feedback, models.SET_NULL, null=True, blank=True, related_name="product", verbose_name=_("newest answer")
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)
    deleted_at = models.DateTimeField(_("deleted"), null=True, blank=True, editable=False)

    objects = ProductQuerySet.as_manager()

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")
        ordering = ["-created_at"]
        indexes = [
            # A seller's list is counted, filtered and paged from these two indexes; then only one page's rows are read.
            models.Index(
                fields=["seller", "-created_at", "id"],
                include=["category", "prediction", "answer"],
                condition=Q(deleted_at=None),
                name="product_list_newest",
            ),
            models.Index(
                fields=["seller", "title", "id"],
                include=["category", "prediction", "answer"],
                condition=Q(deleted_at=None),
                name="product_list_by_title",
            ),
            models.Index(
                fields=["seller", "-deleted_at", "id"], condition=Q(deleted_at__isnull=False), name="product_trash"
            ),
            models.Index(fields=["deleted_at"], condition=Q(deleted_at__isnull=False), name="product_trash_expires"),
            GinIndex(fields=["lexemes"], name="product_lexemes", fastupdate=False),
            models.Index(fields=["-created_at"], name="product_newest"),
            models.Index(fields=["sku"], name="product_by_sku"),
            models.Index(
                F("seller"), Lower("sku"), condition=Q(deleted_at=None) & ~Q(sku=""), name="product_sku_of_seller"
            ),
        ]

    def __str__(self) -> str:
        return self.title or str(_("Untitled product"))

    def get_absolute_url(self) -> str:
        return reverse("product", args=[self.pk])

    @property
    def large_photo_url(self) -> str:
        return self._photo_url("large")

    @property
    def small_photo_url(self) -> str:
        return self._photo_url("small")

    def _photo_url(self, size: str) -> str:
        """Return the photo's address, which names the prediction so that browsers never show an earlier photo."""
        if self.deleted_at:
            return reverse("trashed_photo", args=[self.pk])
        return f"{reverse('product_photo', args=[self.pk, size])}?v={self.prediction_id}"

    @property
    def expires_at(self) -> datetime | None:
        """When the retention task deletes the product from the trash; None where only its seller does."""
        if self.deleted_at is None or not settings.TRASH_DAYS:
            return None
        return self.deleted_at + timedelta(days=settings.TRASH_DAYS)

    @property
    def state(self) -> "Product.State":
        if self.prediction.state == Prediction.State.FAILED:
            return self.State.FAILED
        if self.prediction.state != Prediction.State.DONE:
            return self.State.WAITING
        if self.category_id:
            return self.State.CATEGORISED
        return self.State.NO_CATEGORY if self.answer_id else self.State.NEEDS_ANSWER

    @property
    def answer_is_older(self) -> bool:
        """Whether the seller's answer was given before the last change of text or photo, and not again since."""
        return self.answer is not None and self.answer.prediction_id != self.prediction_id


class ProductPhotoQuerySet(models.QuerySet["ProductPhoto"]):
    def for_seller(self, seller: User) -> Self:
        return self.filter(seller=seller)

    def drafts(self) -> Self:
        """Return the photos that belong to no product."""
        return self.filter(product=None)


class ProductPhoto(models.Model):
    """A photo of a product, at a position that counts from 0: the first one is what models read.

    A photo without a product is a draft: its product is not saved yet, was deleted, or no longer has it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    seller = models.ForeignKey(User, models.CASCADE, related_name="photos")
    # The constraint below has an index that begins with the product.
    product = models.ForeignKey(Product, models.SET_NULL, null=True, related_name="photos", db_index=False)
    position = models.PositiveSmallIntegerField(default=0, db_default=0)
    large = models.CharField(max_length=120)
    small = models.CharField(max_length=120)
    # When it was uploaded or, since then, removed from a product: drafts are deleted a day later.
    created_at = models.DateTimeField(default=timezone.now)

    objects = ProductPhotoQuerySet.as_manager()

    class Meta:
        ordering = ["position"]
        constraints = [
            # Checked at the end of a transaction, so that photos can change places.
            models.UniqueConstraint(
                fields=["product", "position"], name="one_photo_at_a_position", deferrable=models.Deferrable.DEFERRED
            )
        ]
        indexes = [
            models.Index(fields=["created_at"], condition=Q(product=None), name="photo_drafts_by_age"),
            models.Index(fields=["large"], name="photo_by_large_copy"),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def large_url(self) -> str:
        return reverse("photo", args=[self.pk, "large"])

    @property
    def small_url(self) -> str:
        return reverse("photo", args=[self.pk, "small"])


def _in_state(state: Product.State) -> Q:
    """Return the condition for a product to be in that state, in terms that indexes can answer."""
    failed = _prediction_is(Prediction.State.FAILED)
    waiting = _prediction_is(Prediction.State.QUEUED, Prediction.State.RUNNING)
    if state in (Product.State.WAITING, Product.State.FAILED):
        return Q(failed if state == Product.State.FAILED else waiting)
    done = Q(~_prediction_is(Prediction.State.QUEUED, Prediction.State.RUNNING, Prediction.State.FAILED))
    if state == Product.State.CATEGORISED:
        return done & Q(category__isnull=False)
    return done & Q(category=None, answer__isnull=state != Product.State.NO_CATEGORY)


def _prediction_is(*states: Prediction.State) -> Exists:
    return Exists(Prediction.objects.filter(pk=OuterRef("prediction"), seller=OuterRef("seller"), state__in=states))
