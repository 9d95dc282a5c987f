"""The photos of a product's form: uploaded files among those that it has already, in the seller's order."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from common.photos.decoder_pool import Copies
from portal.models import Product, ProductPhoto, User
from portal.products.photos import MOST_PHOTOS, PhotoError
from portal.products.services import decode_photos, store_photo_draft

NEW = "new"  # in the order of the photos: here comes the next one of the uploaded files
PHOTO_GONE = gettext_lazy("A photo is no longer here. Please add it again.")


class PhotoInput(forms.FileInput):
    allow_multiple_selected = True


class PhotoFilesField(forms.FileField):
    """Any number of files; what is in them is checked by the form."""

    def clean(self, data: Any, initial: Any = None) -> Any:
        return [super(PhotoFilesField, self).clean(upload) for upload in data or []]


class PhotoKeysField(forms.Field):
    """Any number of ids of photos; with `accepts_new` also NEW, which becomes None. What is no id is ignored."""

    widget = forms.MultipleHiddenInput

    def __init__(self, *, accepts_new: bool = False) -> None:
        super().__init__(required=False)
        self.accepts_new = accepts_new

    def to_python(self, value: Any) -> Any:
        keys: list[UUID | None] = []
        for text in value or []:
            if self.accepts_new and text == NEW:
                keys.append(None)
            elif (key := _uuid(text)) and key not in keys:
                keys.append(key)
        return keys


class PhotosForm(forms.Form):
    """The part of a product's form that adds, orders and removes photos.

    Validation decodes the uploaded files and stores nothing. `store_photos` then stores the valid ones as drafts, also
    when another field or file is wrong, so that the seller need not upload them again. The page sends the order as
    ids, with NEW in the place of each file; without a script the files come last.
    """

    photos = PhotoKeysField(accepts_new=True)
    remove_photos = PhotoKeysField()
    main_photo = PhotoKeysField()
    photo = PhotoFilesField(
        label=gettext_lazy("Photos"),
        required=False,
        allow_empty_file=True,
        widget=PhotoInput(attrs={"accept": "image/jpeg,image/png,image/webp,image/heic,.heic", "multiple": True}),
    )

    def __init__(self, *args: Any, seller: User, product: Product | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seller = seller
        self.product = product
        self._own = list(product.photos.all()) if product else []
        self._entries: list[ProductPhoto | Copies] = list(self._own)

    @property
    def listed_photos(self) -> list[ProductPhoto]:
        """The photos that the page shows, in order."""
        return [entry for entry in self._entries if isinstance(entry, ProductPhoto)]

    @property
    def removed_photos(self) -> list[ProductPhoto]:
        """The product's photos that the seller removed."""
        removed = self.cleaned_data["remove_photos"] if self.is_bound else []
        return [photo for photo in self._own if photo.pk in removed]

    @property
    def has_photo(self) -> bool:
        return bool(self._entries)

    def clean_photo(self) -> None:
        """Put the uploaded files into the order and decode as many as a product can have. It is cleaned last."""
        uploads = self.cleaned_data["photo"]
        entries = self._with_uploads(self._sent_photos(), uploads)
        if main := self.cleaned_data["main_photo"]:
            entries.sort(key=lambda entry: not (isinstance(entry, ProductPhoto) and entry.pk in main))
        kept = self._without_surplus(entries)
        if len(kept) < len(entries):
            self.add_error("photo", _too_many(len(entries) - len(kept)))
        self._entries = self._decoded(kept)

    def store_photos(self) -> None:
        """Store the files that validation has decoded, so that the page can send their ids with the form again."""
        entries: list[ProductPhoto | Copies] = []
        is_stored = True
        for entry in self._entries:
            if not isinstance(entry, ProductPhoto):
                if not is_stored:
                    continue  # the storage has just failed
                try:
                    entry = store_photo_draft(seller=self.seller, copies=entry)
                except PhotoError as error:
                    is_stored = False
                    self.add_error("photo", ValidationError(str(error), code=error.code))
                    continue
            entries.append(entry)
        self._entries = entries

    def drop_lost_photos(self) -> None:
        """Forget photos that another tab's product has taken, and say so."""
        found = {photo.pk for photo in self._available([photo.pk for photo in self.listed_photos])}
        self._entries = [photo for photo in self.listed_photos if photo.pk in found]
        self.add_error("photo", ValidationError(PHOTO_GONE, code="photo_gone"))

    def _sent_photos(self) -> list[ProductPhoto | None]:
        """Return the photos in the order that was sent, without those to be removed; None stands for a file."""
        keys: list[UUID | None] = self.cleaned_data["photos"]
        if not keys:  # a form that knows nothing of an order
            keys = [photo.pk for photo in self._own]
        found = {photo.pk: photo for photo in self._available([key for key in keys if key])}
        if any(key and key not in found for key in keys):
            self.add_error("photo", ValidationError(PHOTO_GONE, code="photo_gone"))
        removed = self.cleaned_data["remove_photos"]
        return [found.get(key) if key else None for key in keys if not key or (key in found and key not in removed)]

    def _available(self, keys: Sequence[UUID]) -> list[ProductPhoto]:
        """Return those of the seller's photos that are drafts or belong to this product."""
        photos = ProductPhoto.objects.for_seller(self.seller).filter(pk__in=keys) if keys else ()
        return [photo for photo in photos if photo.product_id in (None, self.product and self.product.pk)]

    def _with_uploads(
        self, photos: Sequence[ProductPhoto | None], uploads: Sequence["UploadedFile[Any]"]
    ) -> "list[ProductPhoto | UploadedFile[Any]]":
        left = list(uploads)
        entries: list[ProductPhoto | UploadedFile[Any]] = []
        for photo in photos:
            if photo:
                entries.append(photo)
            elif left:
                entries.append(left.pop(0))
        return entries + left

    def _without_surplus(
        self, entries: "Sequence[ProductPhoto | UploadedFile[Any]]"
    ) -> "list[ProductPhoto | UploadedFile[Any]]":
        """Leave out the last files where there are too many photos, and none that the product has already."""
        room = MOST_PHOTOS - sum(isinstance(entry, ProductPhoto) for entry in entries)
        kept: list[ProductPhoto | UploadedFile[Any]] = []
        for entry in entries:
            if isinstance(entry, UploadedFile):
                room -= 1
                if room < 0:
                    continue
            kept.append(entry)
        return kept[:MOST_PHOTOS]

    def _decoded(self, entries: "Sequence[ProductPhoto | UploadedFile[Any]]") -> list[ProductPhoto | Copies]:
        """Replace files by their clean copies; leave out those that are rejected, and say why."""
        uploads = [entry for entry in entries if isinstance(entry, UploadedFile)]
        results = iter(decode_photos(seller=self.seller, uploads=uploads) if uploads else [])
        decoded: list[ProductPhoto | Copies] = []
        errors: dict[str, PhotoError] = {}
        for entry in entries:
            result = entry if isinstance(entry, ProductPhoto) else next(results)
            if isinstance(result, PhotoError):
                errors[str(result)] = result  # a temporary one is the same for several
            else:
                decoded.append(result)
        for message, error in errors.items():
            self.add_error("photo", ValidationError(message, code=error.code))
        return decoded


def _too_many(left_out: int) -> ValidationError:
    words = _("A product can have at most %(limit)d photos. Left out: %(count)d.")
    return ValidationError(words % {"limit": MOST_PHOTOS, "count": left_out}, code="too_many_photos")


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
