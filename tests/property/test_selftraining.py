"""What holds for the loop whatever the students score."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from cryossl.data.splits import Split
from cryossl.selftraining.loop import self_train

SPLIT = Split(labelled=("a",), unlabelled=("b",), validation=("v",), test=("t",))


@dataclass(frozen=True)
class Some:
    """A number of pseudo-labels."""

    count: int

    def __len__(self) -> int:
        return self.count


@given(
    st.lists(st.integers(0, 100), min_size=6, max_size=6),
    st.lists(st.integers(0, 3), min_size=5, max_size=5),
    st.integers(0, 5),
)
def test_the_best_of_the_accepted_is_reported_and_the_loop_ends_at_its_first_failure(
    scores: list[int], counts: list[int], iterations: int
) -> None:
    teachers: list[int] = []

    def pseudo_label(teacher: int, unlabelled: tuple[str, ...], iteration: int) -> Some:
        assert unlabelled == SPLIT.unlabelled
        teachers.append(teacher)
        return Some(counts[iteration - 1])

    def fit(labelled: tuple[str, ...], pseudo_labels: Some | None, iteration: int) -> int:
        assert labelled == SPLIT.labelled
        assert (pseudo_labels is None) == (iteration == 0)
        return iteration

    outcome = self_train(
        SPLIT,
        iterations=iterations,
        fit=fit,
        pseudo_label=pseudo_label,
        evaluate=lambda k: scores[k],
        accept=lambda best, student: student.validation > best.validation,
    )
    results = outcome.results
    accepted = [result for result in results if result.accepted]
    assert outcome.best == accepted[-1] == max(accepted, key=lambda result: result.validation)
    assert [result.accepted for result in results[:-1]] == [True] * (len(results) - 1)
    assert teachers == list(range(len(teachers)))
    assert (outcome.stop_reason == "iterations done") == (len(accepted) == iterations + 1)
    assert (outcome.stop_reason == "not accepted") == (not results[-1].accepted)
    assert (outcome.stop_reason == "no pseudo-label") == (outcome.empty is not None)
