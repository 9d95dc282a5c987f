"""Tuning: Optuna varies a recipe within its stated ranges and stops variations that fall behind.

Several fits may share one study: each takes trials until it holds as many finished ones as the job asks for.
`python -m training.fit.tuning WORKDIR` lends a further process: it takes trials and writes no model.
"""

import shutil
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from training.fit import process_group
from training.fit.job import Job
from training.fit.progress import FitError
from training.fit.recipes import Choice, Recipe

if TYPE_CHECKING:
    from training.fit.run import ModelFit

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
WARM_UP = 4  # trials that are never stopped early


def tune_recipe(fit: "ModelFit") -> Recipe:
    """Return the best variation of the job's recipe. Raises FitError when no trial came to an end."""
    job = fit.job
    study = open_study(job) if process_group.is_first_process() else None
    while True:
        trial = _next(study, job) if study else None
        number, recipe = process_group.broadcast(
            (trial.number, apply_trial(job.recipe, trial)) if trial else (-1, None)
        )
        if recipe is None:
            break
        _try(fit, study, trial, number, recipe)
    best = apply_trial(job.recipe, study.best_trial) if study and _finished(study, complete=True) else None
    best = process_group.broadcast(best)
    if best is None:
        raise FitError("No tuning trial came to an end.")
    fit.progress.say(f"Best of {job.trials} trials: " + _changes(job.recipe, best))
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
    except Exception as error:  # the drivers of a dozen databases raise what they like
        raise FitError(f"The tuning study cannot be opened: {error}", permanent=False) from error
    return study


def apply_trial(recipe: Recipe, trial: Trial | FrozenTrial) -> Recipe:
    """Return the recipe with the trial's values in the place of its own."""
    changes: dict[str, Any] = {}
    for name, span in recipe.ranges().items():
        if isinstance(span, Choice):
            changes[name] = trial.suggest_categorical(name, list(span.values))
        elif isinstance(span.low, int) and isinstance(span.high, int):
            changes[name] = trial.suggest_int(name, span.low, span.high, log=span.log)
        else:
            changes[name] = trial.suggest_float(name, span.low, span.high, log=span.log)
    return recipe.but(**changes)


def _next(study: Study, job: Job) -> Trial | None:
    # A trial whose process was killed is never finished, so another one takes its place.
    if _finished(study) >= job.trials:
        return None
    if not study.get_trials(deepcopy=False):
        # The recipe as it stands is the first to be tried.
        known = {name: getattr(job.recipe, name) for name in job.recipe.ranges()}
        study.enqueue_trial(known, skip_if_exists=True)
    return study.ask()


def _try(fit: "ModelFit", study: Study | None, trial: Trial | None, number: int, recipe: Recipe) -> None:
    folder = fit.job.workdir / "trials" / f"{number:04}"
    fit.progress.say(f"Trial {number + 1} of {fit.job.trials}: " + _changes(fit.job.recipe, recipe))

    def watch(epoch: int, loss: float) -> None:
        stops = False
        if trial is not None:
            trial.report(loss, epoch)
            stops = trial.should_prune()
        if process_group.broadcast(stops):
            raise optuna.TrialPruned

    state, loss = TrialState.COMPLETE, None
    try:
        loss = fit.learn(recipe, folder, watch)[1]["validation_loss"]
    except optuna.TrialPruned:
        state = TrialState.PRUNED
        fit.progress.say(f"Trial {number + 1} fell behind and was stopped.")
    except FitError as error:
        if not error.permanent:
            raise
        state = TrialState.FAIL
        fit.progress.say(f"Trial {number + 1} failed: {error}")
    if study is not None and trial is not None:
        study.tell(trial, loss, state=state, skip_if_finished=True)
        if state == TrialState.FAIL and _failed(study) > fit.job.trials:
            raise FitError("Most tuning trials failed; the log says why.")
    if process_group.is_first_local_process():
        shutil.rmtree(folder, ignore_errors=True)


def _finished(study: Study, *, complete: bool = False) -> int:
    states = (TrialState.COMPLETE,) if complete else FINISHED
    return len(study.get_trials(deepcopy=False, states=states))


def _failed(study: Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.FAIL,)))


def _changes(before: Recipe, after: Recipe) -> str:
    old, new = before.to_json(), after.to_json()
    shown = (
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in new.items()
        if value != old[name]
    )
    return ", ".join(shown) or "the recipe as it stands"


if __name__ == "__main__":
    from training.fit.__main__ import main

    main(lends=True)
