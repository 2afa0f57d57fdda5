from __future__ import annotations

from loops_async._wait.costs import LIST_COST_TTL_S, PollCosts

ROW = 480


def test_a_small_fleet_is_asked_for_one_by_one_before_anything_is_known() -> None:
    prices = PollCosts()
    assert not prices.list_is_cheaper(0, 0)
    assert not prices.list_is_cheaper(1, 0)
    assert not prices.list_is_cheaper(4, 0)
    assert prices.list_is_cheaper(50, 0)


def test_thousands_of_dead_rows_are_worth_a_list_for_many_and_not_for_few() -> None:
    prices = PollCosts()
    prices.record_list(3_002 * ROW, 3_002, 2, 0.05, 0)
    assert not prices.list_is_cheaper(2, 1)
    assert prices.list_is_cheaper(500, 1)


def test_an_account_without_others_is_listed_for_a_pair() -> None:
    prices = PollCosts()
    prices.record_list(2 * ROW, 2, 2, 0.01, 0)
    assert prices.list_is_cheaper(2, 1)
    assert not prices.list_is_cheaper(1, 1)


def test_the_tail_of_a_launch_goes_back_to_gets() -> None:
    prices = PollCosts()
    prices.record_list(1_000 * ROW, 1_000, 3, 0.02, 0)
    assert not prices.list_is_cheaper(3, 1)


def test_a_list_that_was_dear_is_measured_again_after_a_while() -> None:
    prices = PollCosts()
    prices.record_list(100_000 * ROW, 100_000, 50, 1.0, 0)
    assert not prices.list_is_cheaper(50, LIST_COST_TTL_S)
    assert prices.list_is_cheaper(50, LIST_COST_TTL_S + 1)


def test_a_service_that_finds_lists_hard_to_make_is_spared_them() -> None:
    prices = PollCosts()
    for _ in range(5):
        prices.record_list(20 * ROW, 20, 20, 30.0, 0)
        prices.record_get(600, 0.05)
    assert not prices.list_is_cheaper(20, 1)
