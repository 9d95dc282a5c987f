import json
from pathlib import Path
from urllib.parse import quote

import pytest
from django.db import connection

from tests.support import fitting
from training.fit import tuning
from training.fit.job import Job
from training.fit.model_fit import ModelFit
from training.fit.progress import FitError, Progress
from training.fit.recipes import Recipe


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitting.write_small_corpus(tmp_path_factory.mktemp("corpus"))


def test_tuning_tries_the_recipe_itself_first_and_fits_the_best(corpus: Path, tmp_path: Path) -> None:
    recipe = fitting.short_recipe("text", "head", lexical=False)
    fitting.run_fit(tmp_path, corpus, recipe, trials=3)
    told = [line["log"] for line in fitting.progress_lines(tmp_path) if "log" in line]
    assert told[0] == "Trial 1 of 3: the recipe without changes"
    assert any(line.startswith("Best of 3 trials") for line in told)
    best = Recipe.from_json(json.loads((tmp_path / "recipe.json").read_text()))
    assert json.loads((tmp_path / "artifact" / "config.json").read_text())["recipe"] == best.to_json()
    assert not list((tmp_path / "trials").iterdir())
    study = tuning.open_study(Job.read(tmp_path))
    assert len(study.trials) == 3
    assert study.best_value <= study.trials[0].value  # type: ignore[operator]


def test_a_second_fit_joins_the_study_and_counts_what_the_first_one_tried(corpus: Path, tmp_path: Path) -> None:
    recipe = fitting.short_recipe("text", "head", lexical=False)
    work = fitting.write_job(tmp_path, corpus, recipe, trials=2)
    first = tuning.tune_recipe(ModelFit(Job.read(work), Progress(work)))
    (work / "progress.jsonl").unlink()
    assert tuning.tune_recipe(ModelFit(Job.read(work), Progress(work))) == first
    told = [line["log"] for line in fitting.progress_lines(work) if "log" in line]
    assert not any(line.startswith("Trial") for line in told)


def test_a_trial_that_falls_behind_is_stopped(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda trial: trial.number == 1)
    recipe = fitting.short_recipe("text", "head", lexical=False)
    work = fitting.write_job(tmp_path, corpus, recipe, trials=2)
    tuning.tune_recipe(ModelFit(Job.read(work), Progress(work)))
    states = [trial.state.name for trial in tuning.open_study(Job.read(work)).trials]
    assert states == ["COMPLETE", "PRUNED"]


def test_an_unreachable_study_storage_is_reported(corpus: Path, tmp_path: Path) -> None:
    url = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
    work = fitting.write_job(tmp_path, corpus, fitting.short_recipe("text", "head"), trials=1, storage=url)
    with pytest.raises(FitError, match="study cannot be opened") as refused:
        tuning.open_study(Job.read(work))
    assert not refused.value.permanent


@pytest.mark.django_db(transaction=True)
def test_a_study_may_lie_in_aisle_s_own_database(corpus: Path, tmp_path: Path) -> None:
    import optuna

    settings = connection.get_connection_params()
    parts = {name: quote(str(settings.get(name) or ""), safe="") for name in ("user", "password", "host", "port")}
    url = f"postgresql+psycopg://{parts['user']}:{parts['password']}@/{settings['dbname']}?host={parts['host']}"
    url += f"&port={parts['port']}" if parts["port"] else ""
    url += "&options=-csearch_path%3Doptuna_test"
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA IF NOT EXISTS optuna_test")
    try:
        work = fitting.write_job(
            tmp_path, corpus, fitting.short_recipe("text", "head"), trials=2, storage=url, study="mine"
        )
        study = tuning.open_study(Job.read(work))
        study.tell(study.ask(), 1.0)
        again = tuning.open_study(Job.read(work))
        assert [trial.value for trial in again.trials] == [1.0]
        optuna.delete_study(study_name="mine", storage=again._storage)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA optuna_test CASCADE")
