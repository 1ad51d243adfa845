"""Algorithms on workloads, a few steps each: a covering of all pairs always, the whole cross among the slow tests."""

from __future__ import annotations

from collections import Counter

import pytest

from .smoke_cross import ALGORITHMS, IN_ONE_PROCESS, WORKLOADS, committed, covering, smoke, unmet

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),  # torch_geometric's import
]
UNSTABLE = {("large_minibatch", "bsd_denoise")}  # its rate is scaled up for large batches, and this model's first steps are steep


def test_the_covering_meets_every_algorithm_and_every_workload_three_times():
    pairs = covering()
    assert len(set(pairs)) == len(pairs)
    of_algorithm, of_workload = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    assert min(of_algorithm[name] for name in ALGORITHMS) >= 3
    assert min(of_workload[name] for name in WORKLOADS) >= 3


@pytest.mark.data
@pytest.mark.parametrize(("algorithm", "workload"), covering())
def test_an_algorithm_takes_steps_on_a_workload(algorithm, workload, prepared_home, tmp_path):
    expected = "diverged" if (algorithm, workload) in UNSTABLE else "ran"
    assert smoke(algorithm, workload, prepared_home, tmp_path) == expected


def test_the_committed_table_has_every_pair_and_none_has_failed():
    cells = committed()
    assert set(cells) == {(algorithm, workload) for algorithm in IN_ONE_PROCESS for workload in WORKLOADS}
    for (algorithm, workload), cell in cells.items():
        needs = unmet(algorithm, workload)
        assert cell == f"refused: needs {', '.join(needs)}" if needs else cell in ("ran", "diverged"), (algorithm, workload)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("algorithm", "workload"), sorted((a, w) for a in IN_ONE_PROCESS for w in WORKLOADS))
def test_every_pair_does_what_the_committed_table_says(algorithm, workload, prepared_home, tmp_path):
    assert smoke(algorithm, workload, prepared_home, tmp_path) == committed()[algorithm, workload]
