"""Correct typing errors by a vocabulary."""

from collections.abc import Mapping

SHORTEST_CORRECTED = 4  # letters: a shorter word is one letter away from many others
LETTERS_FOR_TWO_ERRORS = 7


def closest_word(word: str, vocabulary: Mapping[str, int]) -> str | None:
    """Return the word of a vocabulary that differs least, of several the most frequent; None if none is close enough.

    One typing error is forgiven from four letters on, two from seven. The vocabulary maps words to their frequencies.
    """
    if len(word) < SHORTEST_CORRECTED:
        return None
    limit = 1 if len(word) < LETTERS_FOR_TWO_ERRORS else 2
    distances = {}
    for known in vocabulary:
        distance = typing_distance(word, known, limit=limit)
        if distance <= limit:
            distances[known] = distance
    return min(distances, key=lambda known: (distances[known], -vocabulary[known], known), default=None)


def typing_distance(first: str, second: str, *, limit: int) -> int:
    """Return how many letters are missing, too many, wrong or swapped with the next; more than `limit` is limit + 1.

    This is the optimal string alignment distance.
    """
    if abs(len(first) - len(second)) > limit:
        return limit + 1
    earlier: list[int] = []
    above = list(range(len(second) + 1))
    for row, letter in enumerate(first, 1):
        line = [row]
        for column, other in enumerate(second, 1):
            cost = min(above[column] + 1, line[column - 1] + 1, above[column - 1] + (letter != other))
            is_swap = row > 1 and column > 1 and letter == second[column - 2] and first[row - 2] == other
            line.append(min(cost, earlier[column - 2] + 1) if is_swap else cost)
        if min(line) > limit:
            return limit + 1
        earlier, above = above, line
    return min(above[-1], limit + 1)
