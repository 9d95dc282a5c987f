"""Request, cancel and describe training runs. `training.runs.pipeline` does the work."""

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.models import Modality, ModelVersion
from classifier.registry import traffic
from feedback.models import MonitoringReport
from training.fit import recipes
from training.models import Dataset, TrainingRun
from training.runs.worker_wakeup import wake_workers_on_commit

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

    from training.fit.recipes import Recipe


class TrainingRefused(Exception):
    """A run can't be started; the message says why and what to do."""


def request_training(
    *,
    modality: Modality,
    recipe: "Recipe",
    dataset: Dataset | None = None,
    parent: ModelVersion | None = None,
    trials: int = 0,
    processes: int = 1,
    machines: int = 1,
    master: str = "",
    deploys: bool = True,
    ends_test: bool = False,
    trigger: TrainingRun.Trigger = TrainingRun.Trigger.COMMAND,
    requested_by: "AbstractBaseUser | None" = None,
    report: MonitoringReport | None = None,
) -> TrainingRun:
    """Queue a run and wake the training workers.

    Raises Refused while another run of the modality is active, or when the recipe or the parent is for another one.
    """
    if recipe.modality != modality:
        raise TrainingRefused(_("The recipe is for %(modality)s models.") % {"modality": recipe.modality})
    if machines > 1 and not master.rpartition(":")[2].isdigit():
        raise TrainingRefused(_("Several machines need the first one's address as host:port."))
    if parent and parent.modality != modality:
        raise TrainingRefused(_("%(version)s can't be continued: it is another kind of model.") % {"version": parent})
    try:
        with transaction.atomic():
            run = TrainingRun.objects.create(
                modality=modality,
                dataset=dataset,
                recipe=recipe.to_json(),
                parent=parent,
                trials=trials,
                processes=processes,
                machines=machines,
                master=master,
                deploys=deploys,
                ends_test=ends_test,
                trigger=trigger,
                requested_by_id=requested_by.pk if requested_by else None,
                report=report,
            )
    # The unique constraint decides, not a query before it: two requests may come at the same time.
    except IntegrityError as error:
        active = TrainingRun.objects.active().filter(modality=modality).first()
        # Another constraint failed, or the active run has ended since.
        if active is None:
            raise
        raise TrainingRefused(
            _("A %(modality)s run is %(state)s since %(since)s. Wait for it, or cancel it.")
            % {
                "modality": modality,
                "state": active.get_state_display().lower(),
                "since": f"{active.created_at:%Y-%m-%d %H:%M} UTC",
            }
        ) from error
    wake_workers_on_commit()
    return run


def cancel_training(run: TrainingRun) -> bool:
    """Cancel a run and return whether it was active.

    One without a worker ends at once, a running one when its worker next writes its progress.
    """
    runs = TrainingRun.objects.filter(pk=run.pk)
    queued = (runs.filter(state=TrainingRun.State.QUEUED) | runs.without_heartbeat()).update(
        state=TrainingRun.State.CANCELLED,
        is_cancelled=True,
        message=_("Cancelled while no worker had it. The live model is unchanged."),
        finished_at=timezone.now(),
    )
    # A worker has the run: it stops by itself, and ends the fit's processes before it does.
    running = TrainingRun.objects.filter(pk=run.pk, state=TrainingRun.State.RUNNING).update(is_cancelled=True)
    return bool(queued or running)


def request_automatic_training(
    modality: Modality, *, trigger: TrainingRun.Trigger, report: MonitoringReport | None = None
) -> TrainingRun:
    """Queue a run that no person asked for, as the settings say. Raises Refused as `request_training` does."""
    parent = traffic.current_champion(modality) if settings.RETRAIN_FROM_CHAMPION else None
    recipe = recipes.default_recipe(modality)
    return request_training(modality=modality, recipe=recipe, parent=parent, trigger=trigger, report=report)


def answer_report(report: MonitoringReport) -> None:
    """Start the runs that a monitoring report asks for, and record on the report what became of the request."""
    answers = []
    for modality in [Modality(report.modality)] if report.modality else list(Modality):
        try:
            run = request_automatic_training(modality, trigger=TrainingRun.Trigger.REPORT, report=report)
            answers.append(_("%(run)s started.") % {"run": run})
        except TrainingRefused as refusal:
            answers.append(str(refusal))
    MonitoringReport.objects.filter(pk=report.pk, answered_at=None).update(
        answered_at=timezone.now(), answer=" ".join(answers)
    )


def describe_plan(run: TrainingRun) -> dict[str, Any]:
    """Return what a run would do, as names and values to print."""
    champions = traffic.live_variants_by_modality()[run.modality]
    return {
        "recipe": run.recipe,
        "dataset": str(run.dataset) if run.dataset else _("made when it starts"),
        "continues from": str(run.parent) if run.parent else _("the pretrained backbone"),
        "champion": ", ".join(str(variant.version) for variant in champions) or _("none"),
        "minimum accuracy": settings.MIN_ACCURACY[run.modality],
        "maximum latency (ms)": settings.MAX_LATENCY_MS[run.modality],
        "deploys": run.deploys,
        "ends an experiment": run.ends_test,
    }
