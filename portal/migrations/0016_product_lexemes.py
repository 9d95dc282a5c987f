import django.contrib.postgres.search
from django.db import migrations, models

# The lexemes of a product, by which portal/products/search.py finds it: its words and their stems, of the title with
# weight A, the SKU with B, the description with C. Marked ones tell where a word stands: "=" in title or SKU. "~" marks
# the whole SKU and "#" the id of the chosen category. Lexemes must be shorter than 2 kB.
FUNCTIONS = """
CREATE FUNCTION aisle_product_lexemes(title text, description text, sku text, language text, category_id bigint)
RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT
        setweight(titles, 'A') || setweight(skus, 'B') || setweight(aisle_lexemes(description, language), 'C')
        || array_to_tsvector(
            ARRAY(SELECT '=' || left(word, 500) FROM unnest(tsvector_to_array(titles || skus)) AS word)
            || CASE WHEN sku = '' THEN '{}'::text[] ELSE ARRAY['~' || lower(sku)] END
            || CASE WHEN category_id IS NULL THEN '{}'::text[] ELSE ARRAY['#' || category_id] END
        )
    FROM (
        SELECT aisle_lexemes(title, language) AS titles, to_tsvector('simple'::regconfig, aisle_fold(sku)) AS skus
        OFFSET 0
    ) AS named
);

-- True, at the price of a comparison of lexemes: the planner takes that for as cheap as one of two numbers, and would
-- read a seller's products one after the other where the index of lexemes is faster. Not for parallel workers, whose
-- start takes longer than a search.
CREATE FUNCTION aisle_match_cost(lexemes tsvector) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE COST 1000
AS 'BEGIN RETURN true; END';

CREATE FUNCTION aisle_set_product_lexemes() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.lexemes := aisle_product_lexemes(NEW.title, NEW.description, NEW.sku, NEW.language, NEW.category_id);
    RETURN NEW;
END $$;

CREATE TRIGGER set_product_lexemes
    BEFORE INSERT OR UPDATE OF title, description, sku, language, category_id ON portal_product
    FOR EACH ROW EXECUTE FUNCTION aisle_set_product_lexemes();
"""
NO_FUNCTIONS = """
DROP TRIGGER set_product_lexemes ON portal_product;
DROP FUNCTION aisle_set_product_lexemes;
DROP FUNCTION aisle_match_cost;
DROP FUNCTION aisle_product_lexemes;
"""


class Migration(migrations.Migration):
    """Add the lexemes of products, which a trigger keeps: rows that there are get theirs in the next migration.

    A stored generated column would rewrite the table under a lock, some minutes for a million products.
    """

    dependencies = [("portal", "0015_sku_of_seller"), ("classifier", "0016_search_terms")]

    operations = [
        migrations.AddField(
            model_name="product",
            name="language",
            field=models.CharField(blank=True, db_default="", default="", editable=False, help_text="Of title and description, as ISO 639-1; empty where it was not recognised.", max_length=8),
        ),
        migrations.AddField(
            model_name="product",
            name="lexemes",
            field=django.contrib.postgres.search.SearchVectorField(editable=False, help_text="Set by a trigger.", null=True),
        ),
        migrations.RunSQL(FUNCTIONS, NO_FUNCTIONS),
    ]
