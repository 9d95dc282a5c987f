"""Fill an account with personal data of every kind."""

from django.utils import timezone

from classifier.models import Category, Prediction
from classifier.tasks import archive_pending
from feedback.models import Feedback
from feedback.tasks import archive_feedback
from portal.models import Product, User
from portal.products import services
from tests.support.photos import photo_upload, product_photo

STORAGE_ALIASES = ("default", "archive", "datasets", "private")
CATEGORY_SLUGS = ("musical-instruments", "beauty")


def fill_account(user: User, word: str, count: int = 4) -> list[Product]:
    """List answered, judged and archived products with photos, and leave a photo that no product took."""
    for number in range(count):
        letter = chr(ord("a") + number + len(word))  # no two titles and no two photos are alike
        content = product_photo(size=(480 + 8 * number, 480 + len(word)))
        drafts = [services.create_photo_draft(seller=user, upload=photo_upload(content))]
        if not number:  # one product has a further photo
            drafts.append(services.create_photo_draft(seller=user, upload=photo_upload()))
        title = f"{word} {letter * 5} {letter * 7} {letter * 9}"
        services.submit_product(seller=user, title=title, description=f"By {word}", photos=drafts)
    done = {"state": Prediction.State.DONE, "probabilities": {"beauty": 1.0}, "text_embedding": [0.5, 0.25]}
    top5 = [{"category": "Beauty", "slug": "beauty", "probability": 1.0}]
    Prediction.objects.filter(seller=user).update(**done, top5=top5, finished_at=timezone.now())
    products = list(Product.objects.filter(seller=user).select_related("prediction").order_by("title"))
    for number, product in enumerate(products):
        category = Category.objects.get(slug=CATEGORY_SLUGS[number % 2])
        services.record_answer(prediction=product.prediction, category=category)
    Feedback.objects.filter(seller=user).update(review=Feedback.Review.ACCEPTED)
    archive_pending()
    archive_feedback()
    services.create_photo_draft(seller=user, upload=photo_upload())
    return products
