from classifier.registry.rollout_statistics import Budget, Record, exceeds_error_rate, latency_ratio, reason_to_stop

BUDGET = Budget(error_rate=0.05, latency_ratio=2.0, least=50)


def test_a_few_errors_may_be_chance_and_many_are_not() -> None:
    assert reason_to_stop(Record(95, 5), Record(900, 0), BUDGET) == ""
    assert "12 of 100 rows failed" in reason_to_stop(Record(88, 12), Record(900, 0), BUDGET)
    assert reason_to_stop(Record(20, 20), Record(900, 0), BUDGET) == ""  # too few to judge


def test_an_error_rate_that_all_versions_share_does_not_stop_the_new_one() -> None:
    assert reason_to_stop(Record(80, 20), Record(800, 200), BUDGET) == ""


def test_certainty_grows_with_the_rows() -> None:
    assert not exceeds_error_rate(Record(92, 8), 0.05)
    assert exceeds_error_rate(Record(920, 80), 0.05)


def test_only_passes_of_similar_size_are_compared() -> None:
    """The new version answers few rows at a time: each costs more, which is no fault of it."""
    others = Record(900, 0, {0: (20.0, 100), 5: (5.0, 800)})
    assert latency_ratio(Record(100, 0, {0: (22.0, 100)}), others, least=50) == 22 / 20
    assert "3.0 times as slow" in reason_to_stop(Record(100, 0, {0: (60.0, 100)}), others, BUDGET)
    assert latency_ratio(Record(100, 0, {3: (60.0, 100)}), others, least=50) is None
    assert latency_ratio(Record(40, 0, {0: (60.0, 40)}), others, least=50) is None
    assert reason_to_stop(Record(), Record(), BUDGET) == ""
