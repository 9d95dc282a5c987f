"""The guard of new versions: one that fails or is slow beyond its budget is stopped, and people are told."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.mail import send_mail
from django.db import connection
from django.db.models import Q, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.ml.artifact import ArtifactError
from classifier.models import Fault, Modality, ModelVersion, Variant
from classifier.registry import deployments, rollout_statistics, traffic, variants
from classifier.registry.rollout_statistics import Budget, Record
from common.object_storage import StorageDown

log = logging.getLogger(__name__)

WINDOW = timedelta(hours=1)  # how far back the guard looks, and how long a version that serves alone is new

TIMES = """
SELECT {modality}_version_id, round(log(2, (passes->'{modality}'->>'rows')::numeric))::int AS size,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY (passes->'{modality}'->>'ms')::float), count(*)
FROM classifier_prediction
WHERE created_at >= %s AND finished_at >= %s AND {modality}_version_id = ANY(%s) AND passes ? '{modality}'
GROUP BY 1, 2
"""


def stop_failing_versions() -> list[ModelVersion]:
    """Stop every new version that breaks its budget; return them.

    New is what a test made live, and for an hour what was deployed alone: that one is rolled back.
    """
    stopped = []
    for modality in Modality.values:
        live = sorted(traffic.live_variants(modality), key=lambda variant: (variant.deployed_at, variant.pk))
        for variant in live[1:] or live:
            others = [other.version for other in live if other != variant]
            if why := _verdict(variant, others):
                if _take_back(variant, alone=not others, why=why):
                    stopped.append(variant.version)
                break  # what is left is judged anew a minute later
    return stopped


def load_records(modality: str, versions: Sequence[ModelVersion], since: datetime) -> dict[int, Record]:
    """Return what each version did since then, by its id."""
    ids = [version.pk for version in versions]
    failed = Fault.objects.filter(version__in=ids, created_at__gte=since).values("version").annotate(rows=Sum("rows"))
    failures = {row["version"]: row["rows"] for row in failed}
    times: dict[int, dict[int, tuple[float, int]]] = defaultdict(dict)
    with connection.cursor() as cursor:
        # Asked shortly before and answered since then counts too.
        cursor.execute(TIMES.format(modality=Modality(modality).value), [since - WINDOW, since, ids])
        for version, size, median, count in cursor.fetchall():
            times[version][size] = (median, count)
    return {
        pk: Record(sum(count for _median, count in times[pk].values()), failures.get(pk, 0), times[pk]) for pk in ids
    }


def _verdict(variant: Variant, others: Sequence[ModelVersion]) -> str:
    now, version = timezone.now(), variant.version
    if not others and (now - variant.deployed_at > WINDOW or deployments.previous_version(version.modality) is None):
        return ""
    since = max(variant.deployed_at, now - WINDOW)
    known = load_records(version.modality, [version, *others], since)
    new = known.pop(version.pk)
    budget = Budget(
        settings.CANARY_MAX_ERROR_RATE, settings.CANARY_MAX_LATENCY_RATIO, settings.CANARY_LEAST_PREDICTIONS
    )
    return rollout_statistics.reason_to_stop(new, _together(known.values()), budget)


def _together(known: Any) -> Record:
    """Return several versions' records as one, each size's median weighted by rows."""
    sizes: dict[int, list[tuple[float, int]]] = defaultdict(list)
    answered = failed = 0
    for record in known:
        answered, failed = answered + record.answered, failed + record.failed
        for size, time in record.times.items():
            sizes[size].append(time)
    times = {}
    for size, each in sizes.items():
        rows = sum(count for _median, count in each)
        times[size] = (sum(median * count for median, count in each) / rows, rows)
    return Record(answered, failed, times)


def _take_back(variant: Variant, *, alone: bool, why: str) -> bool:
    version = variant.version
    note = _("Stopped by itself: %(why)s.") % {"why": why}
    try:
        if alone:
            deployments.roll_back(version.modality, note=note, expected_champion=deployments.ExpectedChampion(version))
        else:
            variants.stop_variant(version, note=note)
    except (deployments.NotDeployable, deployments.NothingToRollBack, ArtifactError, StorageDown) as error:
        log.error("%s should be stopped (%s) but could not be: %s", version, why, error)
        return False
    log.error("%s was stopped: %s.", version, why)
    _tell(version, why)
    return True


def _tell(version: ModelVersion, why: str) -> None:
    """Mail those who may deploy. Mail that can't be sent changes nothing."""
    permission = {"codename": "deploy_modelversion", "content_type__app_label": "classifier"}
    may = Q(is_superuser=True)
    for path in ("groups__permissions__", "user_permissions__"):
        may |= Q(**{f"{path}{name}": value for name, value in permission.items()})
    people = get_user_model()._default_manager.filter(may, is_staff=True, is_active=True).distinct()
    addresses = list(people.values_list("email", flat=True))
    serving = ", ".join(str(variant) for variant in traffic.live_variants(version.modality))
    body = _(
        "Aisle stopped %(version)s by itself: %(why)s.\n\n"
        "Sellers went on getting answers. What serves now: %(serving)s.\n"
        "The admin's pages Experiments and Deployments tell more."
    ) % {"version": version, "why": why, "serving": serving}
    for address in addresses:  # one each: nobody sees who else is staff
        try:
            send_mail(_("Aisle stopped %(version)s") % {"version": version}, body, None, [address])
        except OSError as error:
            log.error("The mail about %s could not be sent: %s", version, type(error).__name__)
