"""Fill a database with a large shop by SQL: sellers, products, predictions, answers, reviews.

As a command it leaves the shop in a folder, to be looked at with AISLE_HOME=FOLDER make run. See benchmarks/README.md.
"""

import argparse
import json
import random
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.progress import track_progress
from benchmarks.harness.stack import prepare_database, set_up_home

CHUNK = 50_000
DUE = 10_000
KINDS = 400  # of products: what the models say of one is what they say of all of its kind
PHOTOS = 20_000  # that some products share
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
    SELECT 'seller' || n || '@shop.example', '', '!', true, false, false, now() - random() * interval '3 years'
    FROM generate_series(1, %(sellers)s) AS n
"""
KIND = """
    CREATE TEMPORARY TABLE kind (
        kind int PRIMARY KEY, first bigint, second bigint, confidence float, differ float, text_probabilities jsonb,
        image_probabilities jsonb, probabilities jsonb, top5 jsonb, text_embedding halfvec, image_embedding halfvec
    )
"""
# Some sellers have many products: the largest some percent of all, most of them a few. One of fifty puts every third
# product into the first category.
ROWS = """
    CREATE TEMPORARY TABLE row AS
    SELECT gen_random_uuid() AS id, gen_random_uuid() AS answer, n, seller,
           (seller - %(first_seller)s) %% 50 = 7 AS lies, 1 + floor(random() * %(kinds)s)::int AS kind,
           now() - random() * interval '700 days' AS created,
           random() AS answers, random() AS says, random() AS reviewed
    FROM (
        SELECT n, %(first_seller)s + floor(%(sellers)s * power(random(), 3))::int AS seller
        FROM generate_series(%(start)s, %(end)s) AS n
    ) AS numbered
"""
# Some words are in most descriptions, most words in a few.
PREDICTIONS = """
    INSERT INTO classifier_prediction (
        id, seller_id, title, description, photo_large, photo_small, state, priority, attempts, error, due_at,
        text_version_id, image_version_id, text_probabilities, image_probabilities, probabilities, ensemble, top5,
        text_embedding, image_embedding, milliseconds, unusual, photo_hash, created_at, finished_at, archived_at,
        archive_due_at
    )
    SELECT id, seller,
           'Product ' || n || ' of ' || (%(colours)s::text[])[1 + floor(random() * 12)] || ' '
           || (%(materials)s::text[])[1 + floor(random() * 12)],
           (SELECT string_agg((%(words)s::text[])[1 + floor(2000 * power(random(), 3))], ' ')
            FROM generate_series(1, 20 + n %% 20)),
           'ab/large.jpg', 'ab/small.jpg', 'done', 0, 1, '', created, %(text)s, %(image)s, text_probabilities,
           image_probabilities, probabilities, '{"rule": "log-pool"}', top5, text_embedding, image_embedding,
           20 + 60 * random(), CASE WHEN random() < 0.01 THEN 'text' ELSE '' END,
           CASE WHEN random() < 0.02 THEN hashint8extended(floor(%(photos)s * random())::bigint, 18)
                ELSE hashint8extended(n, 18) END,
           created, created + interval '2 seconds', created + interval '9 seconds', created
    FROM row JOIN kind USING (kind)
"""
# Two in five are answered: most with the first category, some with the second or "none of these".
PRODUCTS = """
    INSERT INTO portal_product (
        id, seller_id, sku, title, description, photo_large, photo_small, prediction_id, category_id, answer_id,
        created_at, updated_at
    )
    SELECT gen_random_uuid(), seller_id, 'SKU' || left(asked.id::text, 8), title, description, 'ab/large.jpg',
           'ab/small.jpg', asked.id,
           CASE WHEN answers > 0.4 OR says > 0.97 THEN NULL WHEN lies AND says < 0.33 THEN %(lucrative)s
                WHEN says > 0.9 THEN second ELSE first END,
           CASE WHEN answers <= 0.4 THEN answer END, created_at, created_at
    FROM row JOIN kind USING (kind) JOIN classifier_prediction AS asked USING (id)
"""
PHOTO_ROWS = """
    INSERT INTO portal_productphoto (id, seller_id, product_id, position, large, small, created_at)
    SELECT gen_random_uuid(), product.seller_id, product.id, 0, photo_large, photo_small, created_at
    FROM row JOIN portal_product AS product ON product.prediction_id = row.id
"""
ANSWERS = """
    INSERT INTO feedback_feedback (
        id, prediction_id, seller_id, verdict, category_id, rank, wish, earlier, review, correction_id, reviewed_by_id,
        reviewed_at, created_at, answered_at, archived_at, archive_due_at, worth, reason, inclusion, language,
        confidence, disagreement, text_version_id, image_version_id, second_wanted
    )
    SELECT answer, row.id, seller,
           CASE WHEN category_id IS NULL THEN 'none' WHEN category_id = first OR category_id = second THEN 'top5'
                ELSE 'other' END,
           category_id, CASE category_id WHEN first THEN 1 WHEN second THEN 2 END, '', '[]',
           CASE WHEN reviewed > 0.05 THEN 'open' WHEN category_id = first THEN 'accepted' ELSE 'corrected' END,
           CASE WHEN reviewed <= 0.05 AND category_id IS DISTINCT FROM first THEN first END,
           CASE WHEN reviewed <= 0.05 THEN %(reviewer)s::bigint END,
           CASE WHEN reviewed <= 0.05 THEN created + interval '2 hours' END,
           created, created + interval '1 hour', created + interval '2 hours', created, random(),
           (%(reasons)s::text[])[1 + floor(random() * 5)], CASE WHEN random() < 0.1 THEN 0.1 END,
           (%(languages)s::text[])[1 + floor(random() * 3)], confidence, differ, %(text)s, %(image)s, false
    FROM row JOIN kind USING (kind) JOIN portal_product AS product ON product.prediction_id = row.id
    WHERE answers <= 0.4
"""
REVIEWS = """
    INSERT INTO feedback_review (
        feedback_id, reviewer_id, verdict, category_id, is_blind, answer, answered_at, created_at
    )
    SELECT feedback.id, %(reviewer)s, CASE review WHEN 'accepted' THEN 'accept' ELSE 'correct' END, correction_id,
           false, jsonb_build_object('category', slug), feedback.answered_at, reviewed_at
    FROM row JOIN feedback_feedback AS feedback ON feedback.id = row.answer
    LEFT JOIN classifier_category AS category ON category.id = feedback.category_id
    WHERE review <> 'open'
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


def seed_home() -> None:
    """Fill an installation in the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path, help="a folder that isn't there yet")
    parser.add_argument("--rows", type=int, default=1_000_000, help="predictions")
    parser.add_argument("--sellers", type=int, default=50_000)
    options = parser.parse_args()
    if options.home.exists():
        parser.error(f"{options.home} is there already.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    set_up_home(options.home)
    prepare_database(pages=True)
    seed_shop(rows=options.rows, sellers=options.sellers)
    print(f"AISLE_HOME={options.home} make run")


def seed_shop(*, rows: int, sellers: int) -> None:
    """Fill an empty, prepared database, and let PostgreSQL look at it."""
    from django.db import connection

    from classifier.models import Category, ModelVersion
    from feedback.models import Reason
    from portal.models import User

    categories = dict(Category.objects.order_by("slug").values_list("slug", "pk"))
    versions = dict(ModelVersion.objects.values_list("modality", "pk"))
    reviewer = User.objects.create_user("reviewer@shop.example", is_staff=True)
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")  # what is made here refers to what is there
        cursor.execute("ALTER TABLE portal_product ENABLE ALWAYS TRIGGER set_product_lexemes")
        cursor.execute(SELLERS, {"sellers": sellers})
        cursor.execute("SELECT min(id) FROM portal_user WHERE email LIKE 'seller%%@shop.example'")
        values = {
            "first_seller": cursor.fetchone()[0],
            "sellers": sellers,
            "reviewer": reviewer.pk,
            "text": versions["text"],
            "image": versions["image"],
            "lucrative": next(iter(categories.values())),
            "words": made_up_words(2000),
            "colours": COLOURS,
            "materials": MATERIALS,
            "reasons": Reason.values,
            "languages": ["en", "de", "es"],
            "kinds": KINDS,
            "photos": PHOTOS,
            "due": DUE,
        }
        cursor.execute(KIND)
        cursor.executemany("INSERT INTO kind VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)", kinds(categories))
        for start in track_progress(range(1, rows + 1, CHUNK), f"Chunks of {CHUNK} products"):
            cursor.execute("DROP TABLE IF EXISTS row")
            for statement in (ROWS, PREDICTIONS, PRODUCTS, PHOTO_ROWS, ANSWERS, REVIEWS):
                cursor.execute(statement, values | {"start": start, "end": min(start + CHUNK - 1, rows)})
        cursor.execute(QUEUED, values)
        cursor.execute("ALTER TABLE portal_product ENABLE TRIGGER set_product_lexemes")
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("VACUUM (ANALYZE)")


def kinds(categories: dict[str, int]) -> list[tuple[Any, ...]]:
    """Return what the models say of each kind of product: they agree about four in five, surely about most of these."""
    chance = np.random.default_rng(18)
    slugs = list(categories)
    centres = {"text": chance.normal(size=(len(slugs), 384)), "image": chance.normal(size=(len(slugs), 1280))}
    found = []
    for number in range(1, KINDS + 1):
        best = int(chance.integers(len(slugs)))
        seen = {"text": best, "image": best if chance.random() < 0.8 else int(chance.integers(len(slugs)))}
        by_model = {}
        for modality, category in seen.items():
            by_model[modality] = chance.dirichlet(np.full(len(slugs), 0.3)) * chance.choice([0.02, 0.1, 0.5])
            by_model[modality][category] += 1 - by_model[modality].sum()
        both = np.sqrt(by_model["text"] * by_model["image"]) + 1e-6
        both /= both.sum()
        order = np.argsort(-both)
        top5 = [{"category": slugs[k], "slug": slugs[k], "probability": round(float(both[k]), 4)} for k in order[:5]]
        vectors = [
            str(np.round(centre[seen[modality]] + chance.normal(size=centre.shape[1]), 3).tolist())
            for modality, centre in centres.items()
        ]
        columns = [
            json.dumps(dict(zip(slugs, each.round(6).tolist(), strict=True))) for each in (*by_model.values(), both)
        ]
        differ = float(np.abs(by_model["text"] - by_model["image"]).sum() / 2)
        first, second = (categories[slugs[k]] for k in order[:2])
        row = (number, first, second, float(both[order[0]]), differ, *columns, json.dumps(top5), *vectors)
        found.append(row)
    return found


def made_up_words(count: int) -> list[str]:
    chance = random.Random(18)  # noqa: S311
    return ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(3, 9))) for _ in range(count)]


if __name__ == "__main__":
    seed_home()
