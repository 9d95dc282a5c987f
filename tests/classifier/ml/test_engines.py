"""The engines compute the real starters alike, and the reference replaces one that fails."""

import gc
import os
import shutil
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from classifier.ml import engines
from classifier.ml.engines import converted, openvino_cpu, usable_cores
from classifier.ml.image_model import ImageModel
from classifier.ml.text_model import TextModel
from classifier.models import ModelVersion, Variant
from classifier.registry import model_cache, traffic
from classifier.services import STARTER
from tests.support.model_versions import register_variant

CPU = torch.device("cpu")
TITLES = ["Yamaha acoustic guitar", "red shoe", "organic tea " * 60, "", "赤い靴", "dog bowl", "12 V drill"] * 3
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this module's conversions lie."""
    return tmp_path_factory.mktemp("engines")


def text_model(cache: Path, *names: str, threads: int = 2) -> TextModel:
    model = TextModel.load(STARTER / "text", device="cpu")
    engines.select_engine(model.encoder, names, threads=threads, cache=cache)
    return model


def image_model(cache: Path, *names: str) -> ImageModel:
    model = ImageModel.load(STARTER / "image", device="cpu")
    engines.select_engine(model.encoder, names, threads=2, cache=cache)
    return model


def answers(model: TextModel) -> np.ndarray:
    return model.predict_texts(TITLES, [""] * len(TITLES)).probabilities


def photographs() -> list[Image.Image]:
    from sklearn.datasets import load_sample_image

    flower = Image.fromarray(load_sample_image("flower.jpg"))
    return [flower.rotate(angle).resize((300, 200)) for angle in range(0, 360, 20)]


def in_cache(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir() if not path.name.startswith("."))


def test_texts_get_the_reference_s_output(cache: Path) -> None:
    reference = answers(TextModel.load(STARTER / "text", device="cpu"))
    assert answers(text_model(cache, "openvino f32 cpu")) == pytest.approx(reference, abs=1e-4)
    for name in ("openvino bf16 cpu", "torch bf16 cpu"):
        if name.startswith("torch") or openvino_cpu.has_bf16():
            assert answers(text_model(cache, name)) == pytest.approx(reference, abs=0.05)


def test_photos_get_the_reference_s_output(cache: Path) -> None:
    photos = photographs()
    reference = ImageModel.load(STARTER / "image", device="cpu").predict_images(photos)
    model = image_model(cache, "openvino f32 cpu")
    output = model.predict_images(photos)
    assert model.engine == "openvino f32 cpu"
    assert output.probabilities == pytest.approx(reference.probabilities, abs=1e-4)
    assert output.embeddings == pytest.approx(reference.embeddings, abs=1e-4)


def test_threads_may_share_a_model(cache: Path) -> None:
    model = text_model(cache, "openvino f32 cpu")
    expected = answers(model)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _number: answers(model), range(8)):
            assert found == pytest.approx(expected, abs=1e-5)


FIRST_USES = """
import os, sys, threading
from classifier.ml.engines import openvino_cpu
openvino = openvino_cpu.import_openvino()
sys.setswitchinterval(1e-6)
both = threading.Barrier(2)
def use():
    both.wait()
    openvino.Type.i64.to_dtype()
threads = [threading.Thread(target=use) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
os._exit(0)
"""


def test_two_threads_may_use_the_library_first_at_the_same_time() -> None:
    # Left to itself, nearly every try hangs for ever.
    subprocess.run([sys.executable, "-c", FIRST_USES], cwd=ROOT, check=True, timeout=60)


def test_a_damaged_conversion_is_repeated(tmp_path: Path, cache: Path) -> None:
    text_model(cache, "openvino f32 cpu")
    own = shutil.copytree(cache, tmp_path / "own")
    for folder in in_cache(own):
        with (folder / "network.bin").open("r+b") as file:
            file.seek(1000)
            file.write(b"rotten")
    expected = answers(text_model(cache, "openvino f32 cpu"))
    model = text_model(own, "openvino f32 cpu")
    assert model.engine == "openvino f32 cpu"
    assert answers(model) == pytest.approx(expected, abs=1e-5)
    assert any(converted._read(folder) for folder in in_cache(own))


def test_the_reference_is_used_when_a_network_can_not_be_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("an operation is unknown")

    monkeypatch.setattr(openvino_cpu, "convert_network", refuse)
    model = text_model(tmp_path, "openvino bf16 cpu", "openvino f32 cpu", "torch f32 cpu")
    assert model.engine == "torch f32 cpu"
    assert answers(model).shape == (len(TITLES), len(model.labels))
    assert "an operation is unknown" in caplog.text


def test_a_conversion_with_other_results_is_not_used(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text_model(cache, "openvino f32 cpu")
    own = shutil.copytree(cache, tmp_path / "own")
    for folder in in_cache(own):
        reference = np.load(folder / converted.REFERENCE)
        known = converted._read(folder)
        assert known
        shutil.rmtree(folder)
        converted._write(converted.Converted(known.model, np.roll(reference, 1, axis=1)), folder)
    assert text_model(own, "openvino f32 cpu", "torch f32 cpu").engine == "torch f32 cpu"
    assert "not the reference's" in caplog.text


def test_a_cache_that_can_not_be_written_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    assert image_model(tmp_path / "file" / "cache", "openvino f32 cpu").engine == "openvino f32 cpu"
    assert "could not be kept" in caplog.text


CONVERT = """
import sys
from pathlib import Path
from classifier.ml import engines
from classifier.ml.image_model import ImageModel
model = ImageModel.load(Path(sys.argv[1]), device="cpu")
engines.select_engine(model.encoder, ["openvino f32 cpu"], threads=1, cache=Path(sys.argv[2]))
print(model.engine)
"""


def test_two_processes_may_convert_at_once_and_leave_nothing_in_the_home_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-c", CONVERT, str(STARTER / "image"), str(tmp_path / "cache")]
    environment = {**os.environ, "HOME": str(home)}
    both = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _number in range(2)
    ]
    assert [process.communicate()[0].split("\n")[-2] for process in both] == ["openvino f32 cpu"] * 2
    (folder,) = in_cache(tmp_path / "cache")
    assert converted._read(folder)
    assert [path for path in home.rglob("*") if "intel" in path.name.lower() or "openvino" in path.name.lower()] == []


def test_telemetry_can_not_be_imported() -> None:
    openvino_cpu.openvino_version()
    with pytest.raises(ImportError):
        import openvino_telemetry  # noqa: F401


def checked(name: str, *, passed: bool, library: str | None = None) -> dict[str, Any]:
    return {name: {"passed": passed, "library": library or engines.library_version(name)}}


def test_engines_are_chosen_by_setting_device_and_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_cpu, "has_bf16", lambda: True)
    bf16, f32, reference = "openvino bf16 cpu", "openvino f32 cpu", "torch f32 cpu"
    choose = engines.engine_candidates
    assert choose("auto", "auto", CPU, {}) == (f32, reference)
    assert choose("auto", "auto", CPU, checked(bf16, passed=True)) == (bf16, f32, reference)
    assert choose("auto", "auto", CPU, checked(bf16, passed=False)) == (f32, reference)
    assert choose("auto", "auto", CPU, checked(f32, passed=False)) == (reference,)
    assert choose("auto", "bf16", CPU, {}) == (bf16, reference)
    assert choose("openvino", "bf16", CPU, checked(bf16, passed=False)) == (reference,)
    assert choose("torch", "auto", CPU, checked(bf16, passed=True)) == (reference,)
    assert choose("auto", "auto", CPU, checked(bf16, passed=True, library="another")) == (f32, reference)
    monkeypatch.setattr(openvino_cpu, "has_bf16", lambda: False)
    assert choose("auto", "bf16", CPU, {}) == (reference,)
    gpu = torch.device("cuda")
    assert choose("auto", "auto", gpu, checked("torch bf16 cuda", passed=True)) == ("torch bf16 cuda", "torch f32 cuda")


def test_the_setting_and_a_failed_check_decide_what_a_worker_loads(db: None, settings: Any) -> None:
    version = Variant.objects.get(version__modality="image").version
    assert model_cache.load_model(version).engine.startswith("openvino ")
    settings.ENGINE = "torch"
    assert model_cache.load_model(version).engine == "torch f32 cpu"
    settings.ENGINE = "auto"
    name = "openvino f32 cpu"
    ModelVersion.objects.filter(pk=version.pk).update(engines=checked(name, passed=False))
    (variant,) = traffic.live_variants_by_modality()["image"]
    assert model_cache.load_model(variant.version).engine == "torch f32 cpu"


def test_versions_that_are_not_deployed_are_unloaded(db: None, tmp_path: Path, settings: Any) -> None:
    settings.ENGINE = "torch"
    model_cache.unload_all()
    deployed = Variant.objects.get(version__modality="image").version
    model = model_cache.load_model(deployed)
    others = [register_variant(tmp_path / name, name, "image") for name in "abc"]
    alive = [weakref.ref(model_cache.load_model(other)) for other in others]
    gc.collect()
    assert [ref() is not None for ref in alive] == [False, False, True]
    assert model_cache.load_model(deployed) is model
    model_cache.unload_all()


def test_a_converted_model_is_unloaded_with_its_network(cache: Path) -> None:
    model = text_model(cache, "openvino f32 cpu", threads=1)
    answers(model)
    alive = [weakref.ref(model.encoder.engine), weakref.ref(model)]
    with pytest.raises(AttributeError):
        _ = model.encoder.network
    del model
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_a_container_s_quota_limits_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr("classifier.ml.engines.threads.QUOTA", quota)
    for content, expected in (("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("", 8)):
        quota.write_text(content)
        assert usable_cores() == expected
