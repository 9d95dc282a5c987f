"""Give the stages of training runs their words, for the run's page and the terminal."""

from django.utils.translation import gettext_lazy as _

from training.fit.stage_codes import RunStage

STAGE_LABELS = {
    RunStage.PREPARE_DATASET: _("Preparing the dataset"),
    RunStage.COUNT_NGRAMS: _("Counting n-grams"),
    RunStage.LEXICAL_PART: _("Lexical part"),
    RunStage.TOKENS_TRAIN: _("Tokens of the training split"),
    RunStage.TOKENS_VALIDATION: _("Tokens of the validation split"),
    RunStage.EMBEDDINGS_TRAIN: _("Embeddings of the training split"),
    RunStage.EMBEDDINGS_VALIDATION: _("Embeddings of the validation split"),
    RunStage.TEXT_HEAD: _("Text head"),
    RunStage.TEXT_ENCODER: _("Text encoder"),
    RunStage.IMAGE_HEAD: _("Image head"),
    RunStage.IMAGE_ENCODER: _("Image encoder"),
    RunStage.PREDICT_VALIDATION: _("Predictions for the validation split"),
    RunStage.PREDICT_TEST: _("Predictions for the test split"),
    RunStage.MEASURE_TEST: _("Measuring on the test split"),
    RunStage.MEASURE_REFERENCE_SET: _("Measuring on the reference set"),
    RunStage.REGISTER: _("Registering"),
    RunStage.COMPARE_ENGINES: _("Comparing engines"),
    RunStage.FIT_DETECTOR: _("Fitting the detector of unusual products"),
    RunStage.FIT_ENSEMBLE_RULE: _("Fitting the ensemble rule"),
}

# The words in loss curves of older versions.
OLD_STAGES = {
    "lexical part": RunStage.LEXICAL_PART,
    "text head": RunStage.TEXT_HEAD,
    "text encoder": RunStage.TEXT_ENCODER,
    "image head": RunStage.IMAGE_HEAD,
    "image encoder": RunStage.IMAGE_ENCODER,
}


def read_stage(stage: str) -> str:
    """Return the code of a stored stage, also of one that an older version stored in words."""
    return OLD_STAGES.get(stage, stage)


def stage_label(stage: str) -> str:
    """Return the words for a stored stage; an unknown one is shown as it is."""
    code = read_stage(stage)
    if code in STAGE_LABELS:
        return str(STAGE_LABELS[RunStage(code)])
    return stage
