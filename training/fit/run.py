"""Run a whole fit: tune the recipe where the job asks for trials, then write the artifact and its predictions."""

from training.fit import process_group
from training.fit.job import Job
from training.fit.model_fit import ModelFit
from training.fit.progress import Progress
from training.fit.stages import Stage, write_json
from training.fit.tuning import tune_recipe


def fit_model(job: Job, progress: Progress) -> None:
    """Fit the model that the job describes, unless an earlier process finished it. Raises FitError without a model."""
    whole = Stage(job.workdir / "stages" / "all", job.fingerprint(job.recipe.to_json(), job.trials, job.study))
    if whole.done is not None:
        return
    model_fit = ModelFit(job, progress)
    recipe = tune_recipe(model_fit) if job.trials else job.recipe
    if process_group.is_first_process():
        write_json(job.workdir / "recipe.json", recipe.to_json())
    model_fit.write_model(recipe)
    whole.finish({"recipe": recipe.to_json()})


def lend_trials(job: Job, progress: Progress) -> None:
    """Take trials of the job's tuning study and write no model. Raises FitError as `fit_model`."""
    tune_recipe(ModelFit(job, progress))
