"""Tune a recipe with Optuna within its stated ranges; trials that fall behind are stopped early.

Several fits may share one study: each takes trials until it holds as many finished ones as the job asks for.
`python -m training.fit WORKDIR --trials-only` adds a process that takes trials and writes no model.
"""

import shutil
from typing import Any

import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from training.fit import process_group
from training.fit.job import Job
from training.fit.model_fit import ModelFit
from training.fit.progress import FitError
from training.fit.recipes import Choice, Recipe

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
WARM_UP = 4  # trials that are never stopped early


def tune_recipe(fit: ModelFit) -> Recipe:
    """Return the best variation of the job's recipe. Raises FitError when no trial completed."""
    job = fit.job
    if not job.recipe.tuning_ranges():
        raise FitError(f"The recipe {job.recipe.name} has nothing to tune: run it without --tune.")
    # One process talks to the storage; the others learn from it which recipe to try and when to stop.
    study = open_study(job) if process_group.is_first_process() else None
    while True:
        trial = _next_trial(study, job) if study else None
        number, recipe = process_group.broadcast(
            (trial.number, apply_trial(job.recipe, trial)) if trial else (-1, None)
        )
        if recipe is None:
            break
        _run_trial(fit, study, trial, number, recipe)
    best = None
    if study and _count_trials(study, TrialState.COMPLETE):
        best = apply_trial(job.recipe, study.best_trial)
    best = process_group.broadcast(best)
    if best is None:
        raise FitError("No tuning trial completed.")
    fit.progress.log(f"Best of {job.trials} trials: " + _describe_changes(job.recipe, best))
    return best


def open_study(job: Job) -> Study:
    """Return the job's study, made now or earlier. Raises FitError when its storage cannot be reached."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage: Any
        if job.storage:
            storage = RDBStorage(job.storage)
        else:
            storage = JournalStorage(JournalFileBackend(str(job.workdir / "study.journal")))
        study = optuna.create_study(
            storage=storage,
            study_name=job.study or job.fingerprint(job.recipe.to_json())[:16],
            load_if_exists=True,
            direction="minimize",
            sampler=optuna.samplers.TPESampler(seed=job.recipe.seed, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_UP, n_warmup_steps=1),
        )
    except Exception as error:  # every database driver raises classes of its own
        raise FitError(f"The tuning study cannot be opened: {error}", permanent=False) from error
    return study


def apply_trial(recipe: Recipe, trial: Trial | FrozenTrial) -> Recipe:
    """Return the recipe with the trial's values."""
    changes: dict[str, Any] = {}
    for name, span in recipe.tuning_ranges().items():
        if isinstance(span, Choice):
            changes[name] = trial.suggest_categorical(name, list(span.values))
        elif isinstance(span.low, int) and isinstance(span.high, int):
            changes[name] = trial.suggest_int(name, span.low, span.high, log=span.log)
        else:
            changes[name] = trial.suggest_float(name, span.low, span.high, log=span.log)
    return recipe.with_changes(**changes)


def _next_trial(study: Study, job: Job) -> Trial | None:
    # A trial whose process was killed never finishes, so it isn't counted and another one takes its place.
    if _count_trials(study, *FINISHED) >= job.trials:
        return None
    if not study.get_trials(deepcopy=False):
        # The recipe without changes is the first to be tried.
        values = {name: getattr(job.recipe, name) for name in job.recipe.tuning_ranges()}
        study.enqueue_trial(values, skip_if_exists=True)
    return study.ask()


def _run_trial(fit: ModelFit, study: Study | None, trial: Trial | None, number: int, recipe: Recipe) -> None:
    folder = fit.job.workdir / "trials" / f"{number:04}"
    fit.progress.log(f"Trial {number + 1} of {fit.job.trials}: " + _describe_changes(fit.job.recipe, recipe))

    def stop_if_behind(epoch: int, loss: float) -> None:
        is_behind = False
        if trial is not None:
            trial.report(loss, epoch)
            is_behind = trial.should_prune()
        # All processes stop in the same epoch: one that went on alone would wait for the others for ever.
        if process_group.broadcast(is_behind):
            raise optuna.TrialPruned

    state, loss = TrialState.COMPLETE, None
    try:
        _network, results = fit.train_network(recipe, folder, stop_if_behind)
        loss = results["validation_loss"]
    except optuna.TrialPruned:
        state = TrialState.PRUNED
        fit.progress.log(f"Trial {number + 1} fell behind and was stopped.")
    except FitError as error:
        if not error.permanent:
            raise
        state = TrialState.FAIL
        fit.progress.log(f"Trial {number + 1} failed: {error}")
    if study is not None and trial is not None:
        study.tell(trial, loss, state=state, skip_if_finished=True)
        if state == TrialState.FAIL and _count_trials(study, TrialState.FAIL) > fit.job.trials:
            raise FitError("Most tuning trials failed; the log says why.")
    if process_group.is_first_local_process():
        shutil.rmtree(folder, ignore_errors=True)


def _count_trials(study: Study, *states: TrialState) -> int:
    return len(study.get_trials(deepcopy=False, states=states))


def _describe_changes(before: Recipe, after: Recipe) -> str:
    old = before.to_json()
    changes = []
    for name, value in after.to_json().items():
        if value != old[name]:
            changes.append(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(changes) or "the recipe without changes"
