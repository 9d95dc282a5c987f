"""Examples of every operation, for the OpenAPI document and the documentation page.

The responses were captured from a running Aisle; long ones are shortened.
"""

from dataclasses import dataclass, field
from typing import Any

FORM, JSON = "multipart/form-data", "application/json"
PREDICTION = "3490999e-545f-4ec6-a354-ba303aece0a6"
OTHER_PRODUCT = "7b0f4a0e-2f3c-4f57-9a57-1d2a6f0c3b44"
NEW_PREDICTION = "0c1d7a52-93b5-4a0e-8f5e-2f6b1f0f7a11"
PRODUCT = "df0a45d2-0914-40cc-bd67-9a6c768196ee"
PHOTO = "0b7c5f6e-6d0e-4a39-9a53-3f0a2c1d8e44"
# One for each operation: a key belongs to one request.
RESTORE_KEY = "5d0c1c5e-7a43-4c8e-9b0e-6f2a4d7c9e10"
PREDICT_KEY, ANSWER_KEY = "8e03978e-40d5-43e6-bc93-6894a57f9324", "c2f1d0a4-6a5b-4c1e-9d3a-51a7c3f0b8e2"
TOP5 = [
    {"category": "Musical Instruments", "slug": "musical-instruments", "probability": 0.947312},
    {"category": "Toys & Games", "slug": "toys-games", "probability": 0.021904},
    {"category": "Electronics", "slug": "electronics", "probability": 0.009816},
    {"category": "Arts & Crafts", "slug": "arts-crafts", "probability": 0.006127},
    {"category": "Books", "slug": "books", "probability": 0.004293},
]
ANSWER = {
    "verdict": "top5",
    "category": "musical-instruments",
    "rank": 1,
    "wish": "",
    "answered_at": "2026-11-22T12:48:11.133051Z",
}
PREDICTED = {
    "id": PREDICTION,
    "product": PRODUCT,
    "state": "done",
    "title": "Yamaha acoustic guitar with case",
    "description": "Spruce top, six strings.",
    "top5": TOP5,
    "confidence": "very_likely",
    "calibrated": True,
    "unusual": None,
    "text": {"version": "starter", "probabilities": {"musical-instruments": 0.891204, "toys-games": 0.034817}},
    "image": {"version": "starter", "probabilities": {"musical-instruments": 0.874319, "toys-games": 0.041126}},
    "feedback": None,
    "duplicates": [{"id": OTHER_PRODUCT, "reason": "same_sku"}],
    "error": "",
    "created_at": "2026-11-22T12:48:08.588130Z",
    "finished_at": "2026-11-22T12:48:08.947200Z",
}
LISTED = {
    "id": PRODUCT,
    "sku": "G-1",
    "title": "Yamaha acoustic guitar with case",
    "description": "Spruce top, six strings.",
    "photos": [{"id": PHOTO, "url": f"https://aisle.example/api/v1/products/{PRODUCT}/photos/{PHOTO}"}],
    "state": "categorised",
    "category": "musical-instruments",
    "answer_is_older": False,
    "prediction": PREDICTION,
    "top5": TOP5,
    "calibrated": True,
    "created_at": "2026-11-22T12:48:08.591200Z",
    "updated_at": "2026-11-22T12:48:11.203251Z",
    "deleted_at": None,
}
SINGLE = LISTED | {"duplicates": []}
CHANGED = SINGLE | {
    "title": "Yamaha FG800 guitar, nearly new",
    "state": "waiting",
    "answer_is_older": True,
    "prediction": NEW_PREDICTION,
    "top5": None,
    "updated_at": "2026-11-22T13:05:44.310872Z",
}


@dataclass(frozen=True)
class Example:
    """One request of an operation and its response."""

    status: int
    response: Any = None
    parameters: dict[str, str] = field(default_factory=dict)
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)  # by media type


EXAMPLES = {
    "predict": Example(
        200,
        PREDICTED,
        parameters={"Prefer": "wait=5", "Idempotency-Key": PREDICT_KEY},
        bodies={
            FORM: {
                "title": "Yamaha acoustic guitar with case",
                "description": "Spruce top, six strings.",
                "sku": "G-1",
                "image": ["guitar.jpg", "back.jpg"],
            }
        },
    ),
    "get_prediction": Example(200, PREDICTED, parameters={"id": PREDICTION}),
    "answer_prediction": Example(
        200,
        ANSWER,
        parameters={"id": PREDICTION, "Idempotency-Key": ANSWER_KEY},
        bodies={JSON: {"category": "musical-instruments"}},
    ),
    "list_products": Example(
        200,
        {"next": None, "previous": None, "results": [LISTED]},
        parameters={
            "state": "categorised",
            "q": "guitars",
            "sort": "best_match",
            "created_after": "2026-11-22T00:00:00Z",
        },
    ),
    "get_product": Example(200, SINGLE, parameters={"id": PRODUCT}),
    "get_product_photo": Example(200, parameters={"id": PRODUCT, "photo": PHOTO}),
    "change_product": Example(
        200,
        CHANGED,
        parameters={"id": PRODUCT},
        bodies={
            JSON: {"title": "Yamaha FG800 guitar, nearly new"},
            FORM: {"title": "Yamaha FG800 guitar, nearly new", "image": ["guitar.jpg"]},
        },
    ),
    "delete_product": Example(204, parameters={"id": PRODUCT}),
    "restore_product": Example(200, SINGLE, parameters={"id": PRODUCT, "Idempotency-Key": RESTORE_KEY}),
    "list_categories": Example(
        200,
        [{"slug": "musical-instruments", "name": "Musical Instruments", "found_as": "guitar"}],
        parameters={"q": "guitar"},
    ),
}


def add_examples(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Put the examples into the OpenAPI document (a postprocessing hook of drf-spectacular)."""
    for operations in result["paths"].values():
        for operation in operations.values():
            _add_example(operation, EXAMPLES[operation["operationId"]])
    return result


def _add_example(operation: dict[str, Any], example: Example) -> None:
    for parameter in operation.get("parameters", []):
        if parameter["name"] in example.parameters:
            parameter["example"] = example.parameters[parameter["name"]]
    for media_type, body in operation.get("requestBody", {"content": {}})["content"].items():
        body["example"] = example.bodies[media_type]
    if example.response is not None:
        operation["responses"][str(example.status)]["content"][JSON]["example"] = example.response
