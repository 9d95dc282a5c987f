"""Run the periodic work on answers, cases and reports."""

from celery import shared_task

from classifier.archive import writer
from classifier.models.archivable import archive_due_rows
from common.locks import Lock, try_lock
from feedback.models import Feedback
from feedback.review.category_proposals import update_proposals
from feedback.review.queue import prioritise_new_answers


@shared_task(expires=60)
def archive_feedback() -> None:
    """Archive new answers with their predictions; what the storage refuses is tried again later."""
    archive_due_rows(Feedback.objects.select_related("category"), _archive_answer)


def _archive_answer(feedback: Feedback) -> None:
    writer.write_file(feedback.prediction_id, "feedback.json", {**feedback.answer(), "earlier": feedback.earlier})


@shared_task(expires=60)
def place_feedback() -> None:
    """Rank new answers for the review queue; the schedule repeats it for what is left."""
    for _batch in range(10):
        if not prioritise_new_answers():
            return


@shared_task(expires=3600)
def find_fraud() -> None:
    """Judge all sellers by their answers up to now, open cases, and mail the staff who judge them."""
    from feedback.fraud_cases import detection, services, shared_content

    detection.find_fraud()
    services.mail_new_cases()
    shared_content.hash_photos()


@shared_task(expires=3600)
def propose_categories() -> None:
    """Group answers that fit no category into category proposals."""
    update_proposals()


@shared_task(expires=300)
def summarise_health() -> None:
    """Summarise the hours that ended, compare them with their baselines, and make missing baselines."""
    from feedback.monitoring import alerts, hourly_summaries, starter_baselines

    with try_lock(Lock.HEALTH_SUMMARIES) as is_mine:
        if is_mine:
            hourly_summaries.update_summaries()
            alerts.write_reports()
            starter_baselines.create_missing_baselines()


@shared_task(expires=60)
def tell_findings() -> None:
    """Send the alerts about reports and the mail about appeals that were not sent yet."""
    from feedback import notifications
    from feedback.fraud_cases import services

    notifications.send_report_alerts()
    services.mail_appeals()


@shared_task
def forget_old_summaries() -> None:
    """Delete old hours and old reports without a breach; the days are kept."""
    from feedback.monitoring import alerts, hourly_summaries

    hourly_summaries.delete_old_hours()
    alerts.delete_quiet_reports()
