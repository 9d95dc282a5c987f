"""Build data exports: one zip of JSON, CSV and pictures per person, written with constant memory."""

import csv
import io
import json
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import IO, Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage, storages
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone
from knox.models import AuthToken

from classifier.models import VECTORS, Prediction
from common.object_storage import StorageDown, storage_faults
from feedback.models import Case, Erasure, Feedback, Review
from portal.models import Product, ProductPhoto, User
from portal.privacy import mail
from portal.privacy.models import LEASE, Export, PrivacyEvent, log_event

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 500
TOKEN_COLUMNS = ("token_key", "details__name", "created", "expiry", "details__last_used_at")
MOST_ATTEMPTS = 5
PAUSE = timedelta(minutes=1)
# The fields of a case that its seller may see: nothing about how it was found.
VISIBLE_CASE_FIELDS = (
    "opened_at",
    "state",
    "decided_at",
    "appeal",
    "appealed_at",
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would evaluate a cell that begins with one of these
README = """This is a copy of your data in Aisle, created on {day}.

account.json      your account, its e-mail addresses, roles, log-in factors and API tokens (never their secrets)
products.*        your products, also deleted ones that you can still restore ("deleted" says since when)
predictions.*     the suggestions, also for earlier versions of a product and for products you deleted
answers.*         your answers, with earlier ones
reviews.*         the decisions of our reviewers about your answers, including those that were withdrawn
cases.*           checks of your answers that we told you about, and the note you wrote
pictures/         your photos, as Aisle stores them; "picture" in the tables names the file, and "pictures" of a
                  product all of them, the main one first

Each table comes as .json, which is exact, and as .csv for a spreadsheet; there, a cell that a spreadsheet would take
for a formula begins with an apostrophe. Times are in UTC. Not included: the numbers that are computed from a text or a
photo to compare it with others, the output of models under trial, who our reviewers are and how they choose what to
review, checks of your answers that have not been confirmed, and how any check came about. {missing}
"""

Cells = dict[str, Any]


class ExportLost(Exception):
    """Another worker has claimed the export, or its account is being erased."""


def build_due() -> int:
    """Build the waiting exports one after the other; return how many were claimed."""
    taken = 0
    while export := Export.objects.claim():
        taken += 1
        try:
            _build(export)
        except ExportLost:
            log.warning("Export %s now belongs to another worker.", export.pk)
        except StorageDown as error:
            _postpone(export, str(error))
        except OSError as error:  # no room on the disk
            log.exception("Export %s could not be made.", export.pk)
            _postpone(export, type(error).__name__)
    return taken


def delete_old() -> int:
    """Delete the files of expired exports; return how many. What the storage refuses is tried again later."""
    old = Export.objects.filter(state=Export.State.READY, expires_at__lte=timezone.now())
    return sum(_delete(export) for export in old)


def _build(export: Export) -> None:
    with tempfile.TemporaryFile() as file:
        _write(export, file)
        size = file.tell()
        file.seek(0)
        _hold(export)
        # Uploaded before the row says that it is ready, so that a download never finds the file missing.
        with storage_faults():
            storages["private"].save(export.path, File(file))
    now = timezone.now()
    until = now + timedelta(days=settings.EXPORT_DAYS)
    is_ready = Export.objects.held(export).update(
        state=Export.State.READY, bytes=size, finished_at=now, expires_at=until, lease=None, error=""
    )
    # The lease was lost: another worker builds the same export, and an erasure may have removed its row.
    if not is_ready:
        with storage_faults():
            storages["private"].delete(export.path)
        raise ExportLost
    log_event(PrivacyEvent.Kind.EXPORT_READY, account=export.user_id, bytes=size, rows=export.rows)
    for earlier in Export.objects.filter(user=export.user_id, state=Export.State.READY).exclude(pk=export.pk):
        _delete(earlier)
    mail.mail_ready_export(export.user.email, until)


def _postpone(export: Export, why: str) -> None:
    """Postpone the export; after MOST_ATTEMPTS mark it as failed."""
    log.warning("Export %s is postponed: %s", export.pk, why)
    if export.attempts < MOST_ATTEMPTS:
        pause = PAUSE * 2**export.attempts
        Export.objects.held(export).update(due_at=timezone.now() + pause, lease=None, error=why[:200])
        return
    failed = {"state": Export.State.FAILED, "finished_at": timezone.now(), "lease": None, "error": why[:200]}
    if Export.objects.held(export).update(**failed):
        log_event(PrivacyEvent.Kind.EXPORT_FAILED, account=export.user_id, attempts=export.attempts)
        mail.mail_failed_export(export.user.email)


def _delete(export: Export) -> bool:
    try:
        with storage_faults():
            storages["private"].delete(export.path)
    except StorageDown as error:
        log.warning("Export %s could not be deleted yet: %s", export.pk, error)
        return False
    if Export.objects.filter(pk=export.pk, state=Export.State.READY).update(state=Export.State.DELETED):
        log_event(PrivacyEvent.Kind.EXPORT_DELETED, account=export.user_id)
    return True


def _hold(export: Export) -> None:
    """Renew the lease and store the progress. Raises ExportLost."""
    if not Export.objects.held(export).update(rows=export.rows, due_at=timezone.now() + LEASE):
        raise ExportLost


def _write(export: Export, file: IO[bytes]) -> None:
    user = export.user
    products = Product.objects.filter(seller=user)
    predictions = Prediction.objects.filter(seller=user)
    answers = Feedback.objects.filter(seller=user)
    reviews = Review.objects.filter(feedback__seller=user)
    # Where sellers are not told of cases, the export doesn't contain them either.
    cases = Case.objects.shown_to(user) if settings.FRAUD_APPEALS else Case.objects.none()
    # Each name once: `union` drops what is in both.
    pictures = (
        predictions.exclude(photo_large="")
        .order_by()
        .values_list("photo_large", flat=True)
        .union(ProductPhoto.objects.for_seller(user).order_by().values_list("large", flat=True))
    )
    tables = (products, predictions, answers, reviews, cases)
    total = 2 * sum(rows.count() for rows in tables) + pictures.count()
    export.rows = 0
    Export.objects.held(export).update(total=total)

    def step() -> None:
        export.rows += 1
        if export.rows % ROWS_AT_ONCE == 0:
            _hold(export)

    # JPEG data don't get smaller by compression, but the tables do.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zip:
        zip.writestr("account.json", _json(_account(user)))
        # Newest first: the index by seller has this order.
        listed = products.select_related("category", "answer").prefetch_related("photos")
        _table(zip, "products", lambda: map(_product, _rows(listed)), step)
        _table(zip, "predictions", lambda: map(_prediction, _rows(predictions.defer(*VECTORS))), step)
        _table(zip, "answers", lambda: map(_answer, _rows(answers.select_related("category"))), step)
        _table(zip, "reviews", lambda: map(_review, _rows(reviews.select_related("feedback", "category"))), step)
        _table(zip, "cases", lambda: map(_case, _rows(cases.only(*VISIBLE_CASE_FIELDS))), step)
        missing = sum(not _picture(zip, name, step) for name in pictures.iterator(chunk_size=ROWS_AT_ONCE))
        note = f"{missing} pictures were no longer in our storage." if missing else ""
        zip.writestr("README.txt", README.format(day=f"{timezone.now():%Y-%m-%d}", missing=note))


def _rows(rows: Any) -> Iterator[Any]:
    return iter(rows.iterator(chunk_size=ROWS_AT_ONCE))


def _table(zip: zipfile.ZipFile, name: str, rows: Callable[[], Iterable[Cells]], step: Callable[[], None]) -> None:
    with zip.open(f"{name}.json", "w", force_zip64=True) as file:
        file.write(b"[")
        for number, cells in enumerate(rows()):
            file.write((b",\n" if number else b"\n") + _json(cells, indent=None).encode())
            step()
        file.write(b"\n]\n")
    with zip.open(f"{name}.csv", "w", force_zip64=True) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", newline="")
        writer = csv.writer(text)
        for number, cells in enumerate(rows()):
            if not number:
                writer.writerow(cells)
            writer.writerow(map(_cell, cells.values()))
            step()
        text.flush()
        text.detach()


def _picture(zip: zipfile.ZipFile, name: str, step: Callable[[], None]) -> bool:
    try:
        with storage_faults(), default_storage.open(name) as photo, zip.open(_picture_name(name), "w") as file:
            shutil.copyfileobj(photo, file)
    except FileNotFoundError:
        return False
    finally:
        step()
    return True


def _picture_name(name: str) -> str:
    return f"pictures/{name.rsplit('/', 1)[-1]}" if name else ""


def _json(content: Mapping[str, Any], indent: int | None = 1) -> str:
    return json.dumps(content, indent=indent, ensure_ascii=False, cls=DjangoJSONEncoder)


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        value = _json(value, indent=None)  # type: ignore[arg-type]
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _account(user: User) -> Cells:
    return {
        "email": user.email,
        "name": user.name,
        "joined": user.date_joined,
        "last_login": user.last_login,
        "roles": [group.name for group in user.groups.all()],
        "addresses": list(EmailAddress.objects.filter(user=user).values("email", "verified", "primary")),
        "second_factors": list(Authenticator.objects.filter(user=user).values("type", "created_at", "last_used_at")),
        "tokens": list(AuthToken.objects.filter(user=user).values(*TOKEN_COLUMNS)),
        "erasures": list(
            Erasure.objects.filter(account=user.pk, joined_at=user.date_joined).values("asked_at", "due_at", "state")
        ),
    }


def _product(product: Product) -> Cells:
    return {
        "id": product.pk,
        "sku": product.sku,
        "title": product.title,
        "description": product.description,
        "category": product.category.slug if product.category else None,
        "answered_prediction": product.answer.prediction_id if product.answer else None,
        "picture": _picture_name(product.photo_large),
        "pictures": [_picture_name(photo.large) for photo in product.photos.all()],
        "prediction": product.prediction_id,
        "created": product.created_at,
        "changed": product.updated_at,
        "deleted": product.deleted_at,
    }


def _prediction(prediction: Prediction) -> Cells:
    return {
        "id": prediction.pk,
        "product": prediction.variant_key,
        "title": prediction.title,
        "description": prediction.description,
        "picture": _picture_name(prediction.photo_large),
        "state": prediction.state,
        "error": prediction.error,
        "unusual": prediction.unusual or None,
        "five_likeliest": prediction.top5,
        "probabilities": prediction.probabilities,
        "from_text": prediction.text_probabilities,
        "from_photo": prediction.image_probabilities,
        "created": prediction.created_at,
        "finished": prediction.finished_at,
    }


def _answer(feedback: Feedback) -> Cells:
    return {
        "prediction": feedback.prediction_id,
        **feedback.answer(),
        "earlier": feedback.earlier,
        "review": feedback.review,
        "first_answered": feedback.created_at,
    }


def _review(review: Review) -> Cells:
    return {
        "prediction": review.feedback.prediction_id,
        "decision": review.verdict,
        "corrected_to": review.category.slug if review.category else None,
        "decided": review.created_at,
        "taken_back": review.undone_at,
        "answer_then": review.answer,
    }


def _case(case: Case) -> Cells:
    return {
        "opened": case.opened_at,
        "state": case.state,
        "decided": case.decided_at,
        "your_note": case.appeal,
        "you_wrote": case.appealed_at,
    }
