from __future__ import annotations

import numpy as np

from cryossl.randomness import generator, seed_of


def test_equal_names_give_equal_draws_whatever_was_drawn_before():
    first = generator(3, "augment", 1, 20).random(5)
    generator(3, "augment", 1, 21).random(1000)
    np.testing.assert_array_equal(generator(3, "augment", 1, 20).random(5), first)


def test_seed_purpose_and_each_counter_change_the_draws():
    variants = [
        (3, "a", 1, 2),
        (4, "a", 1, 2),
        (3, "b", 1, 2),
        (3, "a", 2, 2),
        (3, "a", 1, 3),
        (3, "a", 12),
        (3, "a", "1", 2),
    ]
    draws = {generator(seed, *names).random() for seed, *names in variants}
    assert len(draws) == len(variants)


def test_names_do_not_run_into_each_other():
    assert seed_of(0, "ab", "c") != seed_of(0, "a", "bc")


def test_seeds_fit_a_signed_64_bit_integer():
    seeds = [seed_of(0, "range", index) for index in range(200)]
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    assert max(seeds) > 2**62


def test_draws_are_the_same_on_every_machine_and_in_every_release():
    # Written down once: a change here changes every number of every run.
    assert seed_of(0, "split") == 5861598955000012809
    assert generator(0, "split").integers(0, 1000, 4).tolist() == [155, 231, 692, 563]
