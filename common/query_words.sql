-- The words of a text in their order, each with its stems in every language that PostgreSQL can stem and that
-- feedback.statistics.drift.language recognises: a text was stored with the stems of its own language.
SELECT
    lexeme AS word,
    ARRAY(
        SELECT DISTINCT stem
        FROM unnest(ARRAY[
            'english_stem', 'german_stem', 'french_stem', 'spanish_stem', 'italian_stem', 'portuguese_stem',
            'dutch_stem', 'swedish_stem', 'indonesian_stem', 'turkish_stem', 'russian_stem', 'arabic_stem',
            'greek_stem', 'hindi_stem', 'tamil_stem'
        ]::regdictionary[]) AS stemmer,
            unnest(ts_lexize(stemmer, lexeme)) AS stem
        WHERE stem <> lexeme
        ORDER BY stem
    ) AS stems
FROM unnest(to_tsvector('simple', aisle_fold(%(text)s)))
ORDER BY positions[1]
LIMIT %(limit)s
