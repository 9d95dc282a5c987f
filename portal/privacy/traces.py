"""Delete a person's data from every place that holds some. Every function may run twice."""

import uuid
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from allauth.account.models import EmailAddress
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.files.storage import default_storage, storages
from django.db.models import Model, Q
from knox.models import AuthToken

from classifier.archive import writer
from classifier.models import Category, Prediction
from common.object_storage import storage_faults
from feedback.models import CategoryProposal, Feedback
from portal.models import Product, ProductPhoto, User
from portal.privacy.models import Export

THREADS = 8
ROWS_AT_ONCE = 500


def delete_files(predictions: Sequence[uuid.UUID], photos: Sequence[str]) -> dict[str, int]:
    """Delete the archive's objects of these predictions and the named photos; return how many. Raises StorageDown."""
    with ThreadPoolExecutor(THREADS) as threads:
        objects = sum(threads.map(writer.delete_files, predictions))
        list(threads.map(_delete_photo, photos))
    return {"archive objects": objects, "photos": len(photos)}


def delete_rows(predictions: Sequence[uuid.UUID]) -> dict[str, int]:
    """Delete these predictions with everything that refers to them, and their entries in the audit log."""
    feedback = Feedback.objects.filter(prediction__in=predictions)
    products = Product.objects.filter(prediction__in=predictions)
    named = [str(pk) for rows in (feedback, products) for pk in rows.values_list("pk", flat=True)]
    _forget_log([Prediction, Feedback, Product], [*map(str, predictions), *named])
    _withdraw_proposals(predictions)
    counts = {"products": products.delete()[0]}
    _total, by_model = Prediction.objects.filter(pk__in=predictions).delete()
    counts["predictions"] = by_model.get("classifier.Prediction", 0)
    counts["answers"] = by_model.get("feedback.Feedback", 0)
    counts["shadow answers"] = by_model.get("classifier.ShadowAnswer", 0)
    return counts


def close_account(user: User) -> dict[str, int]:
    """End all access: password, sessions and tokens; delete the exports with their files. Raises StorageDown."""
    user.set_unusable_password()
    User.objects.filter(pk=user.pk).update(is_active=False, password=user.password)
    exports = list(Export.objects.filter(user=user))
    for export in exports:
        with storage_faults():
            storages["private"].delete(export.path)
    Export.objects.filter(pk__in=[export.pk for export in exports]).delete()
    return {
        "tokens": AuthToken.objects.filter(user=user).delete()[0],
        "sessions": _delete_sessions(user),
        "exports": len(exports),
    }


def has_rows(user: User) -> bool:
    return any(rows.objects.filter(seller=user).exists() for rows in (Product, Prediction, ProductPhoto))


def delete_user(user: User) -> dict[str, int]:
    """Delete the account with everything that refers to it, and its entries in the audit log."""
    addresses = [str(pk) for pk in EmailAddress.objects.filter(user=user).values_list("pk", flat=True)]
    lines = _forget_log([User], [str(user.pk)]) + _forget_log([EmailAddress], addresses)
    for address in _addresses(user):
        # Entries about no particular row: exports of answers, which quote the filters.
        quotes = Q(change_message__icontains=address) | Q(change_message__icontains=quote(address))
        LogEntry.objects.filter(quotes, object_id=None).update(change_message="")
    _total, by_model = User.objects.filter(pk=user.pk).delete()
    return {
        "log lines": lines + by_model.get("admin.LogEntry", 0),
        "addresses": by_model.get("account.EmailAddress", 0),
        "second factors": by_model.get("mfa.Authenticator", 0),
        "accounts": by_model.get("portal.User", 0),
    }


def _delete_photo(name: str) -> None:
    with storage_faults():
        default_storage.delete(name)


def _withdraw_proposals(predictions: Sequence[uuid.UUID]) -> None:
    """Delete category proposals that quote these products; the next run finds what is still similar."""
    touched = CategoryProposal.objects.filter(answers__prediction__in=predictions).distinct()
    categories = dict(touched.values_list("pk", "category"))
    _forget_log([CategoryProposal], list(map(str, categories)))
    made = [str(category) for category in categories.values() if category]
    LogEntry.objects.filter(_about([Category], made), action_flag=ADDITION).update(change_message="")
    named = CategoryProposal.objects.filter(pk__in=categories)
    named.filter(state=CategoryProposal.State.ACCEPTED).update(words=[])
    named.exclude(state=CategoryProposal.State.ACCEPTED).delete()


def _forget_log(models: Collection[type[Model]], ids: list[str]) -> int:
    return LogEntry.objects.filter(_about(models, ids)).delete()[0]


def _about(models: Collection[type[Model]], ids: list[str]) -> Q:
    types = ContentType.objects.get_for_models(*models).values()
    return Q(content_type__in=[each.pk for each in types], object_id__in=ids)


def _addresses(user: User) -> set[str]:
    return {user.email, *EmailAddress.objects.filter(user=user).values_list("email", flat=True)}


def _delete_sessions(user: User) -> int:
    """Delete the sessions that name the account or one of its addresses; each has to be decoded to tell."""
    addresses = _addresses(user)
    deleted = 0
    for session in Session.objects.iterator(chunk_size=ROWS_AT_ONCE):
        content = SessionStore().decode(session.session_data)
        text = repr(content).lower()
        if content.get("_auth_user_id") == str(user.pk) or any(repr(one.lower()) in text for one in addresses):
            deleted += Session.objects.filter(pk=session.pk).delete()[0]
    return deleted
