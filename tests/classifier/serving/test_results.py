import uuid
from typing import Any

import numpy as np
from psycopg.adapt import AdaptersMap

from classifier.ml.classifier import ProductInput
from classifier.models import Category, ModelVersion, Prediction
from classifier.serving import results
from classifier.serving.inference import ModelOutput, PredictionResult
from classifier.serving.results import AnsweredProduct
from portal.models import User


def test_storing_repeatedly_creates_no_further_classes(seller: User) -> None:
    categories = list(Category.objects.all())
    version = ModelVersion.objects.get(modality="text")
    even = np.full(len(categories), 1 / len(categories))
    known: Any = AdaptersMap
    counts = []
    for _turn in range(3):
        Prediction.objects.create(seller=seller, title=f"Mug {uuid.uuid4()}")
        (claimed,) = Prediction.objects.claim(limit=1)
        output = ModelOutput(version, even, np.ones(384, np.float32), "torch", 1.0, 1)
        result = PredictionResult({"text": output}, even, {"rule": "alone"})
        answered = [AnsweredProduct(claimed, ProductInput(claimed.title), result)]
        assert results.store_results(answered, categories, milliseconds=1.0) == {claimed.pk}
        counts.append(len(known._optimised))
    assert counts[1] == counts[2]
