"""Generate labelled titles from the lexicon, as sellers and shops write them.

The head noun decides the category, not the words round it: a "guitar-shaped cake tin" is no instrument, a "toy drill"
is no tool, and a "case for a violin" is sold with violins. Each pattern below teaches one such rule with many nouns.
"""

import hashlib
import random
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

from training.everyday import lexicon
from training.everyday.lexicon import words

SEED = 18
# Titles made of each English noun, foreign noun and name of a taxonomy, beside the name alone.
ENGLISH_TITLES, FOREIGN_TITLES, TAXONOMY_TITLES = 8, 2, 1
TYPO_SHARE = 0.06
# One noun in so many is held back for calibration: confidence in nouns that were never learnt is what must be honest.
VALIDATION_SHARE = 30
HELD_OUT = lexicon.FOLDER / "held_out.txt"

TOYS, PETS = "toys-games", "pet-supplies"

TOY_PATTERNS = (
    "toy {}", "toy {}", "toy {} for kids", "{} toy", "wooden toy {}", "play {}", "kids toy {}",
    "miniature {} for dollhouse", "pretend play {}", "plastic {} toy for children", "{} for dolls", "toy {} with sound",
    "1:18 scale model {}", "lego {}",
)  # fmt: skip


@dataclass(frozen=True)
class LabelledTitle:
    """A title, the slug of its category, and the noun that decides it."""

    title: str
    category: str
    noun: str = field(compare=False)

    @property
    def is_held_back(self) -> bool:
        """Whether it calibrates a model instead of teaching it; all titles of a noun go the same way."""
        return zlib.crc32(self.noun.encode()) % VALIDATION_SHARE == 0


def everyday_titles(seed: int = SEED) -> list[LabelledTitle]:
    """Return all generated titles, each once a category, without those that are held out for measuring.

    The same seed gives the same titles in the same order.
    """
    rng = random.Random(seed)  # noqa: S311 - nothing here is a secret
    made = [*_english(rng), *_foreign(rng), *_accessories(rng), *_decorated(rng), *_toys(rng), *_for_animals(rng)]
    made += [*_uncategorised(rng), *_taxonomy(rng)]
    with_typos = [_with_typo(each, rng) if rng.random() < TYPO_SHARE else each for each in made]
    return [each for each in dict.fromkeys([*made, *with_typos]) if not is_held_out(each.title)]


def is_held_out(title: str) -> bool:
    """Return whether a title is kept for measuring common sense, and therefore never learnt."""
    return title_digest(title) in held_out_digests()


def title_digest(title: str) -> str:
    """Return the SHA-256 of a title's words, whatever their case, punctuation and Unicode form."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", title).casefold())
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


@cache
def held_out_digests() -> frozenset[str]:
    """Return the digests of the titles that common sense is measured with; the file holds no title."""
    return frozenset(HELD_OUT.read_text(encoding="ascii").split())


def _english(rng: random.Random) -> Iterator[LabelledTitle]:
    nouns = lexicon.english_nouns()
    others = [noun for group in nouns.values() for noun in group]
    for category, group in nouns.items():
        for noun in group:
            yield LabelledTitle(noun, category, noun)
            for pattern in rng.sample(PATTERNS, ENGLISH_TITLES):
                yield LabelledTitle(pattern(noun, group, others, rng), category, noun)


def _foreign(rng: random.Random) -> Iterator[LabelledTitle]:
    for language, groups in lexicon.foreign_nouns().items():
        words = lexicon.foreign_words()[language]
        gap = "" if language == "zh" else " "
        for category, group in groups.items():
            for noun in group:
                yield LabelledTitle(noun, category, noun)
                for word in rng.sample(words, FOREIGN_TITLES):
                    title = rng.choice((f"{noun}{gap}{word}", f"{word}{gap}{noun}"))
                    yield LabelledTitle(title, category, noun)


def _accessories(rng: random.Random) -> Iterator[LabelledTitle]:
    for group in lexicon.accessory_groups():
        for host in group.hosts:
            for accessory in rng.sample(group.accessories, min(14, len(group.accessories))):
                title = rng.choice(ACCESSORY_PATTERNS).format(host=host, accessory=accessory)
                yield LabelledTitle(title, group.category, f"{accessory} for {host}")


def _decorated(rng: random.Random) -> Iterator[LabelledTitle]:
    for category, things in lexicon.decorated_things().items():
        for thing in things:
            for motif in rng.sample(words("motifs"), 10):
                title = rng.choice(MOTIF_PATTERNS).format(motif=motif, thing=thing)
                yield LabelledTitle(title, category, thing)


def _toys(rng: random.Random) -> Iterator[LabelledTitle]:
    nouns = lexicon.english_nouns()
    for category in words("categories copied as toys"):
        for noun in rng.sample(nouns[category], min(110, len(nouns[category]))):
            yield LabelledTitle(rng.choice(TOY_PATTERNS).format(noun), TOYS, f"toy {noun}")
    for thing in words("things for dolls"):
        for pattern in ("doll {}", "{} for doll", "doll's {}", "{} for dolls", "baby doll with {}", "doll and {} set"):
            yield LabelledTitle(pattern.format(thing), TOYS, f"doll {thing}")


def _for_animals(rng: random.Random) -> Iterator[LabelledTitle]:
    for thing in words("things for animals"):
        for animal in rng.sample(words("animals"), 5):
            adjective = rng.choice((*words("colours"), *words("qualities"), ""))
            title = f"{adjective} {thing} for {animal}".strip()
            yield LabelledTitle(title, PETS, f"{thing} for animals")


def _uncategorised(rng: random.Random) -> Iterator[LabelledTitle]:
    english = lexicon.english_nouns()
    others = [noun for group in english.values() for noun in group]
    for group in lexicon.uncategorised_groups():
        for noun in group.nouns:
            titles = [noun, *(pattern(noun, group.nouns, others, rng) for pattern in rng.sample(PATTERNS, 4))]
            titles += [f"{motif}-shaped {noun}" for motif in rng.sample(words("motifs"), 2)]
            titles += [f"{noun} with {motif} motif" for motif in rng.sample(words("motifs"), 1)]
            for title in titles:
                yield from (LabelledTitle(title, category, noun) for category in group.nearest)


def _taxonomy(rng: random.Random) -> Iterator[LabelledTitle]:
    names = lexicon.taxonomy_names()
    others = [name for group in names.values() for name in group]
    for category, group in names.items():
        for name in group:
            yield LabelledTitle(name, category, name)
            for pattern in rng.sample(PATTERNS, TAXONOMY_TITLES):
                yield LabelledTitle(pattern(name, group, others, rng), category, name)


def _with_typo(labelled: LabelledTitle, rng: random.Random) -> LabelledTitle:
    """Return the title with one letter of one of its longer words dropped, doubled, swapped or replaced."""
    parts = labelled.title.split(" ")
    places = [place for place, word in enumerate(parts) if len(word) >= 5 and word.isascii()]
    if not places:
        return labelled
    place = rng.choice(places)
    word, at = parts[place], rng.randrange(1, len(parts[place]) - 1)
    parts[place] = rng.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + rng.choice("aeiouy") + word[at + 1 :],
        )
    )
    return LabelledTitle(" ".join(parts), labelled.category, labelled.noun)


Pattern = Callable[[str, tuple[str, ...], list[str], random.Random], str]


def _adjective(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    return f"{rng.choice((*words('colours'), *words('materials'), *words('qualities')))} {noun}"


def _two_adjectives(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    return f"{rng.choice(words('qualities'))} {rng.choice(words('colours'))} {noun}"


def _size(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    return f"{noun} {rng.choice(words('sizes'))}"


def _size_first(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    return f"{rng.choice(words('sizes'))} {noun}"


def _noun_first(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    gap = rng.choice((", ", " - ", " / ", " "))
    return gap.join(
        (noun, rng.choice(words("colours")), rng.choice((*words("sizes"), *words("qualities"), *words("materials"))))
    )


def _for_user(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    return f"{noun} for {rng.choice(words('users'))}"


def _with_feature(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    return f"{noun} with {rng.choice(words('features'))}"


def _with_other(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    return f"{noun} with {rng.choice(others)}"


def _shaped(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    shape = rng.choice((rng.choice(words("motifs")), rng.choice(others)))
    return f"{shape}{rng.choice((' ', '-'))}shaped {noun}"


def _motif(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    return rng.choice(("{} with {} motif", "{} with {} design", "{} {} print")).format(
        noun, rng.choice(words("motifs"))
    )


def _condition(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    return f"{noun} {rng.choice(('', '- ', '('))}{rng.choice(words('conditions'))}"


def _seller(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    return f"{rng.choice(words('seller words'))} {noun}"


def _bundle(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    other = rng.choice(group)
    return rng.choice(("{} and {}", "{} + {}", "bundle: {} and {}", "{}, {}", "{} / {} set")).format(noun, other)


def _plural(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    return f"{rng.choice(('', '2 x ', 'assorted ', 'various '))}{noun if noun.endswith('s') else noun + 's'}"


def _shouting(noun: str, group: tuple[str, ...], others: list[str], rng: random.Random) -> str:
    return rng.choice(("NEW!!! {} BEST PRICE", "*** {} *** SALE", "{} {}", "L@@K {} bargain")).format(
        noun.upper() if rng.random() < 0.7 else rng.choice(words("emojis")), noun
    )


PATTERNS: tuple[Pattern, ...] = (
    _adjective, _two_adjectives, _size, _size_first, _noun_first, _for_user, _with_feature, _with_other, _shaped,
    _motif, _condition, _seller, _bundle, _plural, _shouting,
)  # fmt: skip
ACCESSORY_PATTERNS = (
    "{host} {accessory}", "{host} {accessory}", "{accessory} for {host}", "{accessory} for {host}",
    "replacement {accessory} for {host}", "{accessory} {host}", "spare {accessory} {host}", "{host} {accessory} new",
)  # fmt: skip
MOTIF_PATTERNS = (
    "{motif} {thing}", "{motif}-shaped {thing}", "{motif} shaped {thing}", "{thing} with {motif}",
    "{thing} {motif} design", "{motif} print {thing}", "{thing} with {motif} motif", "funny {motif} {thing}",
    "{thing} in the shape of a {motif}",
)  # fmt: skip
