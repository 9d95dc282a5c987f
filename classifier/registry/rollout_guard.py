"""Stop new versions that fail or are slow beyond their budget, and mail the staff."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import send_mail
from django.db import connection
from django.db.models import Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.ml.artifact import ArtifactError
from classifier.models import Fault, Modality, ModelVersion, Variant
from classifier.registry import deployments, rollout_statistics, traffic, variants
from classifier.registry.rollout_statistics import Budget, Record
from common.object_storage import StorageDown
from common.staff_mail import staff_addresses

log = logging.getLogger(__name__)

WINDOW = timedelta(hours=1)  # of the guard's figures; a version that has all traffic is new for as long

TIMES = """
SELECT {modality}_version_id, round(log(2, (passes->'{modality}'->>'rows')::numeric))::int AS size,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY (passes->'{modality}'->>'ms')::float), count(*)
FROM classifier_prediction
WHERE created_at >= %s AND finished_at >= %s AND {modality}_version_id = ANY(%s) AND passes ? '{modality}'
GROUP BY 1, 2
"""


def stop_failing_versions() -> list[ModelVersion]:
    """Stop every new version that exceeds its budget; return the stopped ones.

    New are the later versions of an experiment and, for an hour, a version that was given all traffic, which is rolled
    back.
    """
    stopped = []
    for modality in Modality.values:
        # The oldest live version is the standard for the others; alone, it is judged only while it is new.
        live = sorted(traffic.live_variants(modality), key=lambda variant: (variant.deployed_at, variant.pk))
        for variant in live[1:] or live:
            others = [other.version for other in live if other != variant]
            if why := _reason_to_stop(variant, others):
                if _stop(variant, alone=not others, why=why):
                    stopped.append(variant.version)
                break  # the traffic has changed; the next run judges the remaining versions
    return stopped


def load_records(modality: str, versions: Sequence[ModelVersion], since: datetime) -> dict[int, Record]:
    """Return each version's counts and times since then, by its id."""
    ids = [version.pk for version in versions]
    failed = Fault.objects.filter(version__in=ids, created_at__gte=since).values("version").annotate(rows=Sum("rows"))
    failures = {row["version"]: row["rows"] for row in failed}
    times: dict[int, dict[int, tuple[float, int]]] = defaultdict(dict)
    with connection.cursor() as cursor:
        # A row may have been created before `since` and answered after it.
        cursor.execute(TIMES.format(modality=Modality(modality).value), [since - WINDOW, since, ids])
        for version, size, median, count in cursor.fetchall():
            times[version][size] = (median, count)
    return {
        pk: Record(sum(count for _median, count in times[pk].values()), failures.get(pk, 0), times[pk]) for pk in ids
    }


def _reason_to_stop(variant: Variant, others: Sequence[ModelVersion]) -> str:
    now, version = timezone.now(), variant.version
    if not others and (now - variant.deployed_at > WINDOW or deployments.previous_version(version.modality) is None):
        return ""
    since = max(variant.deployed_at, now - WINDOW)
    known = load_records(version.modality, [version, *others], since)
    new = known.pop(version.pk)
    budget = Budget(
        settings.CANARY_MAX_ERROR_RATE, settings.CANARY_MAX_LATENCY_RATIO, settings.CANARY_LEAST_PREDICTIONS
    )
    return rollout_statistics.reason_to_stop(new, _merge_records(known.values()), budget)


def _merge_records(known: Iterable[Record]) -> Record:
    """Merge several versions' records; the medians of each size are averaged, weighted by rows."""
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


def _stop(variant: Variant, *, alone: bool, why: str) -> bool:
    version = variant.version
    note = _("Stopped automatically: %(why)s.") % {"why": why}
    try:
        if alone:
            deployments.roll_back(version.modality, note=note, expected_champion=deployments.ExpectedChampion(version))
        else:
            variants.stop_variant(version, note=note)
    # A refusal must not stop the guard of the other modality; the next run tries again.
    except (deployments.NotDeployable, deployments.NothingToRollBack, ArtifactError, StorageDown) as error:
        log.error("%s should be stopped (%s) but could not be: %s", version, why, error)
        return False
    log.error("%s was stopped: %s.", version, why)
    _mail_staff(version, why)
    return True


def _mail_staff(version: ModelVersion, why: str) -> None:
    """Mail the staff who may deploy. A mail that can't be sent is logged."""
    live = ", ".join(str(variant) for variant in traffic.live_variants(version.modality))
    body = _(
        "Aisle has stopped %(version)s automatically: %(why)s.\n\n"
        "Sellers still get suggestions. Live now: %(live)s.\n"
        "See the pages Experiments and Deployments of the admin."
    ) % {"version": version, "why": why, "live": live}
    # One mail each: recipients must not see each other's addresses.
    for address in staff_addresses("classifier.deploy_modelversion"):
        try:
            send_mail(_("Aisle stopped %(version)s") % {"version": version}, body, None, [address])
        except OSError as error:
            log.error("The mail about %s could not be sent: %s", version, type(error).__name__)
