"""Group answers that fit no category into proposals of new categories, and decide about them."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.models import Category
from feedback.models import CategoryProposal, Feedback, MonitoringReport, Review
from feedback.review.decisions import StaleReview
from feedback.statistics.drift.language import STOP_WORDS

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

MAX_ANSWERS = 3_000  # the newest ones are grouped
MAX_DISTANCE = 0.5  # mean cosine distance up to which groups are joined
REJECTED_SIMILARITY = 0.8  # cosine similarity from which a group equals one that was rejected
MIN_GROUP_SIZE = 5
MAX_WORDS = 6
FIELDS = ["pk", "wish", "prediction__title", "prediction__text_embedding", "prediction__text_version_id"]
State = CategoryProposal.State
WORD = re.compile(r"[^\W\d_]{3,}")
COMMON_WORDS = {word for words in STOP_WORDS.values() for word in words.split()}

Vectors = npt.NDArray[np.float32]


def update_proposals() -> int:
    """Group the "none of these" answers again; return how many proposals are open.

    The embeddings of each text model version are grouped separately. An open proposal that shares most answers with a
    group keeps its row; a rejected group and similar ones are not proposed again.
    """
    kept = []
    decided = CategoryProposal.objects.exclude(state=State.OPEN)
    rows: list[dict[str, Any]] = list(
        Feedback.objects.without_category()
        .filter(prediction__text_embedding__isnull=False, prediction__text_version__isnull=False)
        .exclude(proposals__in=decided)
        .order_by("-answered_at")
        .values(*FIELDS)[:MAX_ANSWERS]
    )
    common = Counter(word for row in rows for word in set(_distinctive_words(row)))
    for version in {row["prediction__text_version_id"] for row in rows}:
        own = [row for row in rows if row["prediction__text_version_id"] == version]
        vectors = np.array([row["prediction__text_embedding"] for row in own], np.float32)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        for group in _similar_groups(vectors):
            centre = vectors[group].mean(axis=0)
            centre /= max(float(np.linalg.norm(centre)), 1e-9)
            if not _is_rejected(centre, version):
                members = [own[number] for number in group]
                kept.append(_store_proposal(version, centre, members, _typical_words(members, common, len(rows))))
    CategoryProposal.objects.filter(state=State.OPEN).exclude(pk__in=kept).delete()
    return len(kept)


@transaction.atomic
def accept_proposal(
    *, proposal: CategoryProposal, name: str, slug: str, reviewer: "AbstractBaseUser", asks_retraining: bool
) -> Category:
    """Create the category, assign the proposal's answers to it as reviewed labels, and return it.

    With `asks_retraining` a training run with the new category is requested. Raises StaleReview for a proposal that is
    already decided, ValidationError for a name or a slug that can't be used.
    """
    _claim_decision(proposal, State.ACCEPTED, reviewer)
    category = Category(name=name, slug=slug)
    category.full_clean()
    category.save()
    CategoryProposal.objects.filter(pk=proposal.pk).update(category=category)
    answers = Feedback.objects.without_category().filter(proposals=proposal.pk)
    rows = list(answers.select_for_update(of=("self",)).order_by("pk"))
    now = timezone.now()
    Review.objects.bulk_create(
        Review(
            feedback=row,
            reviewer_id=reviewer.pk,
            verdict=Review.Verdict.CORRECT,
            category=category,
            answer=row.answer(),
            answered_at=row.answered_at,
            created_at=now,
        )
        for row in rows
    )
    Feedback.objects.filter(pk__in=[row.pk for row in rows]).update(
        review=Feedback.Review.CORRECTED,
        correction=category,
        reviewed_by=reviewer,
        reviewed_at=now,
        second_wanted=False,
    )
    LogEntry.objects.log_actions(reviewer.pk, [category], ADDITION, f"Proposed by {len(rows)} answers: {proposal}")
    if rows:
        LogEntry.objects.log_actions(reviewer.pk, rows, CHANGE, f"Corrected: {category}")
    if asks_retraining:
        MonitoringReport.objects.create(
            summary=_("New category %(name)s with %(count)d answers.") % {"name": name, "count": len(rows)},
            asks_retraining=True,
        )
    return category


@transaction.atomic
def reject_proposal(*, proposal: CategoryProposal, reviewer: "AbstractBaseUser") -> None:
    """Reject the proposal, so that it is not made again. Raises StaleReview for one that is decided already."""
    _claim_decision(proposal, State.REJECTED, reviewer)
    LogEntry.objects.log_actions(reviewer.pk, [proposal], CHANGE, "Rejected")


def _claim_decision(proposal: CategoryProposal, state: State, reviewer: "AbstractBaseUser") -> None:
    rows = CategoryProposal.objects.filter(pk=proposal.pk, state=State.OPEN)
    if not rows.update(state=state, decided_by=reviewer, decided_at=timezone.now()):
        raise StaleReview


def _similar_groups(vectors: Vectors) -> Iterator[list[int]]:
    """Yield the rows of each group of similar unit vectors (n, dim), by average linkage."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(vectors) < MIN_GROUP_SIZE:
        return
    distances = np.clip(1 - vectors @ vectors.T, 0, 2)
    np.fill_diagonal(distances, 0)
    numbers = fcluster(linkage(squareform(distances, checks=False), "average"), MAX_DISTANCE, "distance")
    for number, size in Counter(numbers.tolist()).items():
        if size >= MIN_GROUP_SIZE:
            yield np.flatnonzero(numbers == number).tolist()


def _is_rejected(centre: Vectors, version: int) -> bool:
    rejected = CategoryProposal.objects.filter(state=State.REJECTED, version_id=version).values_list(
        "centre", flat=True
    )
    return any(float(np.dot(centre, np.array(other, np.float32))) >= REJECTED_SIMILARITY for other in rejected)


@transaction.atomic
def _store_proposal(version: int, centre: Vectors, members: Sequence[dict[str, Any]], words: list[str]) -> int:
    ids = {row["pk"] for row in members}
    found: dict[str, Any] = {"words": words, "size": len(ids), "centre": [float(value) for value in centre]}
    for proposal in CategoryProposal.objects.filter(state=State.OPEN, version_id=version, answers__in=ids).distinct():
        if proposal.answers.filter(pk__in=ids).count() * 2 > len(ids):
            CategoryProposal.objects.filter(pk=proposal.pk).update(**found)
            break
    else:
        proposal = CategoryProposal.objects.create(version_id=version, **found)
    proposal.answers.set(ids)
    return proposal.pk


def _distinctive_words(row: dict[str, Any]) -> list[str]:
    """Return the words of the requested category and of the title, without function words."""
    found = WORD.findall(f"{row['wish']} {row['prediction__title']}".casefold())
    return [word[:80] for word in found if word not in COMMON_WORDS]


def _typical_words(members: Sequence[dict[str, Any]], common: Counter[str], rows: int) -> list[str]:
    """Return the words typical of the group, by their count in it times ln((2 + rows) / (1 + rows with the word))."""
    here = Counter(word for row in members for word in set(_distinctive_words(row)))
    here = Counter({word: count for word, count in here.items() if count > 1}) or here
    weights = {word: count * math.log((2 + rows) / (1 + common[word])) for word, count in here.items()}
    return sorted(here, key=lambda word: (-weights[word], -here[word], word))[:MAX_WORDS]
