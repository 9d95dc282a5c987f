"""A large shop in the database, made by SQL in a few minutes: sellers, products, predictions, feedback."""

import json
import random

from progress import track

CHUNK = 50_000
DUE = 10_000
COLOURS = ["blue", "red", "green", "black", "white", "yellow", "grey", "brown", "pink", "orange", "purple", "beige"]
MATERIALS = [
    "steel",
    "oak",
    "cotton",
    "leather",
    "glass",
    "paper",
    "wool",
    "silver",
    "plastic",
    "linen",
    "stone",
    "cork",
]
SELLERS = """
    INSERT INTO portal_user (email, name, password, is_active, is_staff, is_superuser, date_joined)
    SELECT 'seller' || n || '@shop.example', '', '!', true, false, false, now()
    FROM generate_series(1, %(sellers)s) AS n
"""
# Some sellers have many products: the largest some percent of all, most of them a few. Some words are in most
# descriptions, most words in a few.
ROWS = """
    WITH numbers AS (
        SELECT %(first_seller)s + floor(%(sellers)s * power(random(), 3))::int AS seller, n,
               now() - random() * interval '700 days' AS created
        FROM generate_series(%(start)s, %(end)s) AS n
    ), asked AS (
        INSERT INTO classifier_prediction (
            id, seller_id, title, description, photo_large, photo_small, state, priority, attempts, error, due_at,
            text_version_id, image_version_id, text_probabilities, image_probabilities, probabilities, ensemble, top5,
            text_embedding, image_embedding, milliseconds, created_at, finished_at, archived_at, archive_due_at
        )
        SELECT gen_random_uuid(), seller,
               'Product ' || n || ' of ' || (%(colours)s::text[])[1 + floor(random() * 12)] || ' '
               || (%(materials)s::text[])[1 + floor(random() * 12)],
               (SELECT string_agg((%(words)s::text[])[1 + floor(2000 * power(random(), 3))], ' ')
                FROM generate_series(1, 20 + n %% 20)),
               'ab/large.jpg', 'ab/small.jpg', 'done', 0, 1, '', created, %(text)s, %(image)s, %(probabilities)s,
               %(probabilities)s, %(probabilities)s, '{"rule": "log-pool"}', %(top5)s, %(text_embedding)s,
               %(image_embedding)s, 50, created, created + interval '2 seconds', created + interval '9 seconds', created
        FROM numbers
        RETURNING id, seller_id, title, description, created_at
    ), listed AS (
        INSERT INTO portal_product (
            id, seller_id, sku, title, description, photo_large, photo_small, prediction_id, category_id, created_at,
            updated_at
        )
        SELECT gen_random_uuid(), seller_id, 'SKU' || left(id::text, 8), title, description, 'ab/large.jpg',
               'ab/small.jpg', id, CASE WHEN random() < 0.4 THEN %(category)s::bigint END, created_at, created_at
        FROM asked
        RETURNING prediction_id, seller_id, category_id, created_at
    )
    INSERT INTO feedback_feedback (
        id, prediction_id, seller_id, verdict, category_id, rank, wish, earlier, review, created_at, answered_at,
        archived_at, archive_due_at, reason, language, second_wanted
    )
    SELECT gen_random_uuid(), prediction_id, seller_id, 'top5', category_id, 1, '', '[]', 'open', created_at,
           created_at + interval '1 hour', created_at + interval '2 hours', created_at, '', '', false
    FROM listed WHERE category_id IS NOT NULL
"""
QUEUED = """
    INSERT INTO classifier_prediction (
        id, seller_id, title, description, photo_large, photo_small, state, priority, attempts, error, due_at,
        created_at, archive_due_at
    )
    SELECT gen_random_uuid(), %(first_seller)s, 'Waiting ' || n, '', '', '', 'queued', CASE WHEN n %% 10 = 0 THEN 0
           ELSE 10 END, 0, '', now() - n * interval '1 ms', now(), now()
    FROM generate_series(1, %(due)s) AS n
"""


def seed(*, rows: int, sellers: int) -> None:
    """Fill an empty, prepared database, and let PostgreSQL look at it."""
    from django.db import connection

    from classifier.models import Category, ModelVersion

    slugs = list(Category.objects.values_list("slug", flat=True))
    versions = dict(ModelVersion.objects.values_list("modality", "pk"))
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")  # what is made here refers to what is there
        cursor.execute(SELLERS, {"sellers": sellers})
        cursor.execute("SELECT min(id) FROM portal_user")
        values = {
            "first_seller": cursor.fetchone()[0],
            "sellers": sellers,
            "text": versions["text"],
            "image": versions["image"],
            "category": Category.objects.values_list("pk", flat=True)[0],
            "probabilities": json.dumps({slug: round(1 / len(slugs), 6) for slug in slugs}),
            "top5": json.dumps([{"category": slug, "slug": slug, "probability": 0.2} for slug in slugs[:5]]),
            "text_embedding": str([round(0.001 * n, 3) for n in range(384)]),
            "image_embedding": str([round(0.001 * n, 3) for n in range(1280)]),
            "words": made_up_words(2000),
            "colours": COLOURS,
            "materials": MATERIALS,
            "due": DUE,
        }
        for start in track(range(1, rows + 1, CHUNK), f"Chunks of {CHUNK} products"):
            cursor.execute(ROWS, values | {"start": start, "end": min(start + CHUNK - 1, rows)})
        cursor.execute(QUEUED, values)
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("VACUUM (ANALYZE)")


def made_up_words(count: int) -> list[str]:
    chance = random.Random(18)  # noqa: S311
    return ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(3, 9))) for _ in range(count)]
