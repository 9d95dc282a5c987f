"""Define the codes of a training run's stages, as progress.jsonl, the run's row and its loss curve hold them."""

from enum import StrEnum


class RunStage(StrEnum):
    """A stage of a training run or of its fit."""

    PREPARE_DATASET = "prepare_dataset"
    COUNT_NGRAMS = "count_ngrams"
    LEXICAL_PART = "lexical_part"
    TOKENS_TRAIN = "tokens_train"
    TOKENS_VALIDATION = "tokens_validation"
    EMBEDDINGS_TRAIN = "embeddings_train"
    EMBEDDINGS_VALIDATION = "embeddings_validation"
    TEXT_HEAD = "text_head"
    TEXT_ENCODER = "text_encoder"
    IMAGE_HEAD = "image_head"
    IMAGE_ENCODER = "image_encoder"
    PREDICT_VALIDATION = "predict_validation"
    PREDICT_TEST = "predict_test"
    MEASURE_TEST = "measure_test"
    MEASURE_REFERENCE_SET = "measure_reference_set"
    REGISTER = "register"
    COMPARE_ENGINES = "compare_engines"
    FIT_DETECTOR = "fit_detector"
    FIT_ENSEMBLE_RULE = "fit_ensemble_rule"
