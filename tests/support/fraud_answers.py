"""Store a made-up market: sellers' products, both models' probabilities and the sellers' answers."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from classifier.models import Category, ModelVersion, Prediction
from feedback.models import Feedback
from portal.models import User

PRODUCTS = 40
FAVOURITE = "musical-instruments"
SURE = 0.97


def create_sellers(count: int, name: str = "shop") -> list[User]:
    people = [User(email=f"{name}{number}@shop.example", password="!") for number in range(count)]
    return User.objects.bulk_create(people)


def store_answers(
    people: Sequence[User], *, lies: float = 0.0, until: datetime, days: float = 20.0, products: int = PRODUCTS,
    seed: int = 1, favourite: str = FAVOURITE, review: str = "open", photo: str = "",
) -> list[Feedback]:  # fmt: skip
    """Answer products over the days before `until`; a share of the sellers' products goes into the favourite."""
    rng = np.random.default_rng(seed)
    slugs = list(Category.objects.active().values_list("slug", flat=True))
    names = dict(Category.objects.values_list("slug", "name"))
    usual = [slug for slug in slugs if slug != favourite][:6]
    versions = {kind: ModelVersion.objects.filter(modality=kind).latest("pk") for kind in ("text", "image")}
    categories = {category.slug: category for category in Category.objects.all()}
    predictions, feedback = [], []
    for seller in people:
        lying = np.zeros(products, bool)
        lying[rng.permutation(products)[: round(lies * products)]] = True
        for number in range(products):
            predicted = str(rng.choice(usual))
            chosen = favourite if lying[number] else predicted
            rest = (1 - SURE) / (len(slugs) - 1)
            shares = {slug: SURE if slug == predicted else rest for slug in slugs}
            at = until - timedelta(days=days * (products - number) / products, seconds=1)
            prediction = Prediction(
                seller=seller,
                title=f"Product {number} of {seller.email.split('@')[0]}",
                photo_small=photo,
                state="done",
                text_version=versions["text"],
                image_version=versions["image"],
                probabilities=shares,
                text_probabilities=shares,
                image_probabilities=shares,
                top5=[{"slug": predicted, "category": names[predicted], "probability": SURE}],
                created_at=at,
                finished_at=at,
            )
            predictions.append(prediction)
            feedback.append(
                Feedback(
                    prediction=prediction,
                    seller=seller,
                    verdict="other" if chosen != predicted else "top5",
                    rank=None if chosen != predicted else 1,
                    category=categories[chosen],
                    review=review,
                    created_at=at,
                    answered_at=at,
                )
            )
    Prediction.objects.bulk_create(predictions)
    return Feedback.objects.bulk_create(feedback)
