from django.db import migrations

REVIEWS = """
INSERT INTO feedback_review (feedback_id, reviewer_id, verdict, is_blind, answer, answered_at, created_at)
SELECT f.id, f.reviewed_by_id,
    CASE f.review WHEN 'accepted' THEN 'accept' WHEN 'rejected' THEN 'reject' ELSE 'flag' END, false,
    jsonb_build_object('verdict', f.verdict, 'category', c.slug, 'rank', f.rank, 'wish', f.wish,
        'answered_at', f.answered_at),
    f.answered_at, coalesce(f.reviewed_at, f.answered_at)
FROM feedback_feedback f LEFT JOIN classifier_category c ON c.id = f.category_id WHERE f.review <> 'open'
"""


class Migration(migrations.Migration):
    """Decisions from before there were rows of them."""

    dependencies = [("feedback", "0005_reviews")]

    operations = [migrations.RunSQL(REVIEWS, migrations.RunSQL.noop)]
