import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F, Func, Value

# Bodies in SQL's own form name what they call when they are created: they work whatever the search path is, as in
# pg_restore. The functions are used by common/text_search.py.
FUNCTIONS = r"""
-- Latin letters lose their accents; characters at which PostgreSQL would not split a word become spaces.
CREATE FUNCTION aisle_fold(value text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN replace(
    translate(
        CASE WHEN octet_length(value) = length(value) THEN value ELSE
            replace(replace(replace(
                translate(
                    normalize(regexp_replace(normalize(value, NFD), '([A-Za-z])[\u0300-\u036f]+', '\1', 'g'), NFC),
                    'ØøŁłĐđĦħŦŧ', 'OoLlDdHhTt'
                ), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe')
        END,
        '-/._:@+<>~=?#', '             '
    ), '&', ' and ');

CREATE FUNCTION aisle_stemmer(language text) RETURNS regconfig LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE language
    WHEN 'ar' THEN 'arabic'::regconfig
    WHEN 'de' THEN 'german'::regconfig
    WHEN 'el' THEN 'greek'::regconfig
    WHEN 'es' THEN 'spanish'::regconfig
    WHEN 'fr' THEN 'french'::regconfig
    WHEN 'hi' THEN 'hindi'::regconfig
    WHEN 'id' THEN 'indonesian'::regconfig
    WHEN 'it' THEN 'italian'::regconfig
    WHEN 'nl' THEN 'dutch'::regconfig
    WHEN 'pt' THEN 'portuguese'::regconfig
    WHEN 'ru' THEN 'russian'::regconfig
    WHEN 'sv' THEN 'swedish'::regconfig
    WHEN 'ta' THEN 'tamil'::regconfig
    WHEN 'tr' THEN 'turkish'::regconfig
    ELSE 'english'::regconfig
END;

-- The words of a text as they are written, and their stems where these differ. The cost is what was measured, some 50
-- microseconds: by the default the planner would rather compute it for every row than use an index.
CREATE FUNCTION aisle_lexemes(value text, language text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
COST 2000
RETURN (
    SELECT words || ts_delete(stems, tsvector_to_array(words))
    FROM (
        SELECT to_tsvector('simple'::regconfig, folded) AS words, to_tsvector(aisle_stemmer(language), folded) AS stems
        FROM (SELECT aisle_fold(value) AS folded OFFSET 0) AS text
        OFFSET 0
    ) AS lexemes
);
"""
NO_FUNCTIONS = """
DROP FUNCTION aisle_lexemes;
DROP FUNCTION aisle_stemmer;
DROP FUNCTION aisle_fold;
"""


def lexemes_of(field):
    return Func(
        F(field), Value("en"), function="aisle_lexemes", output_field=django.contrib.postgres.search.SearchVectorField()
    )


class Migration(migrations.Migration):
    # The tables of categories are small: their indexes are built at once. `manage.py prepare` adds the search terms.
    dependencies = [("classifier", "0015_plain_texts")]

    operations = [
        migrations.RunSQL(FUNCTIONS, NO_FUNCTIONS),
        migrations.AddField(
            model_name="category",
            name="has_starter_terms",
            field=models.BooleanField(default=False, editable=False, help_text="Whether the search terms that come with Aisle were added: they are added once."),
        ),
        migrations.CreateModel(
            name="CategorySearchTerm",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("term", models.CharField(max_length=120, verbose_name="search term")),
                ("category", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="search_terms", to="classifier.category", verbose_name="category")),
            ],
            options={
                "verbose_name": "search term",
                "verbose_name_plural": "search terms",
                "ordering": ["term"],
            },
        ),
        migrations.AddConstraint(
            model_name="categorysearchterm",
            constraint=models.UniqueConstraint(fields=("category", "term"), name="search_term_is_unique"),
        ),
        migrations.AddIndex(
            model_name="category",
            index=django.contrib.postgres.indexes.GinIndex(lexemes_of("name"), name="category_words"),
        ),
        migrations.AddIndex(
            model_name="categoryalias",
            index=django.contrib.postgres.indexes.GinIndex(lexemes_of("name"), name="category_alias_words"),
        ),
        migrations.AddIndex(
            model_name="categorysearchterm",
            index=django.contrib.postgres.indexes.GinIndex(lexemes_of("term"), name="category_search_term_words"),
        ),
    ]
