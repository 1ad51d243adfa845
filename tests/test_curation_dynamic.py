"""Dynamic methods: unbiased weights, fresh subsets, deterministic plans, bit-exact resume, no global random state touched.

Properties 20 and 21 (dynamic methods) of the list in tests/test_curation_trial.py.
"""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timetrial.data_pipelines.curation.batch_selection import HardestBatches, ReducibleLoss, highest
from timetrial.data_pipelines.curation.context import make_context
from timetrial.data_pipelines.curation.curriculum import Curriculum, open_count
from timetrial.data_pipelines.curation.infobatch import InfoBatch, thin
from timetrial.data_pipelines.curation.interface import Pool, ProxyEpoch, ProxyRun, curate
from timetrial.data_pipelines.curation.random_epochs import RandomEpochs
from timetrial.data_pipelines.curation.selection import kept_count
from timetrial.suite.errors import ConfigError

PATIENT = settings(deadline=None)  # machines are shared: how long an example takes is no property of the code


def make_pool(n, offset=0):
    arrays = {"x": np.zeros((n + offset, 1), np.float32), "label": np.zeros(n + offset, np.int64)}
    return Pool(np.arange(offset, n + offset), arrays, data_digest="d", label="label")


def loss_proxy(losses):
    """A proxy that says what the test wants of every example, whatever it is trained on."""

    def train(epochs, seed, **options):
        return ProxyRun((ProxyEpoch(epochs, np.asarray(losses, np.float32)),))

    return train


def begun(method, pool, keep_fraction, proxy=None):
    curate(method, pool, keep_fraction, make_context(pool, np.random.default_rng(0), train_proxy=proxy))
    return method


def plan(method, epoch, seed=0):
    return method.begin_epoch(epoch, np.random.default_rng([seed, epoch]))


@PATIENT
@given(st.integers(1, 60), st.floats(0.02, 1))
def test_rs2_shows_every_example_once_before_any_twice(n, keep_fraction):
    method = begun(RandomEpochs(), make_pool(n, offset=100), keep_fraction)
    size = kept_count(n, keep_fraction)
    served = []
    for epoch in range(3 * -(-n // size)):
        ids, weights = plan(method, epoch)
        assert weights is None
        assert len(set(ids)) == len(ids) == size
        served.extend(ids.tolist())
        counts = np.bincount(np.array(served) - 100, minlength=n)
        assert counts.max() - counts.min() <= 1


def test_rs2_with_replacement_draws_each_epoch_independently():
    """How often two epochs share an example is hypergeometric: here mean 25·25/100, variance by its formula."""
    method = begun(RandomEpochs(replacement=True), make_pool(100), 0.25)
    epochs = [set(plan(method, e)[0].tolist()) for e in range(400)]
    shared = [len(a & b) for a, b in itertools.pairwise(epochs)]
    variance = 25 * 0.25 * 0.75 * (75 / 99)
    assert np.mean(shared) == pytest.approx(6.25, abs=4 * np.sqrt(variance / len(shared)))
    assert np.var(shared) == pytest.approx(variance, rel=0.3)


@PATIENT
@given(st.lists(st.floats(0, 10), min_size=1, max_size=8), st.sampled_from([0.3, 0.5, 0.7, 0.9]))
def test_infobatch_is_unbiased_by_exact_enumeration(losses, keep_fraction):
    losses = np.array(losses, dtype=np.float64)
    group = np.flatnonzero(losses < losses.mean())
    rest = losses.sum() - losses[group].sum()
    if len(group) == 0:
        assert thin(losses, keep_fraction, np.random.default_rng(0))[0].tolist() == list(range(len(losses)))
        return
    k = kept_count(len(group), keep_fraction)
    weight = thin(losses, keep_fraction, np.random.default_rng(0))[1].max()
    every = [rest + weight * losses[list(kept)].sum() for kept in itertools.combinations(group, k)]
    assert np.mean(every) == pytest.approx(losses.sum(), rel=1e-6)


@PATIENT
@given(st.integers(2, 40), st.floats(0.05, 1), st.integers(0, 99))
def test_the_weights_of_the_thinned_group_sum_to_its_size(n, keep_fraction, seed):
    losses = np.random.default_rng(seed).random(n)
    kept, weights = thin(losses, keep_fraction, np.random.default_rng(seed))
    below = losses[kept] < losses.mean()
    assert weights[below].sum() == pytest.approx((losses < losses.mean()).sum(), rel=1e-5)
    assert (weights[~below] == 1).all()
    assert (~below).sum() == (losses >= losses.mean()).sum()


@pytest.mark.parametrize("epochs", [4, 8, 9, 10, 90, 7.5])
def test_infobatch_weights_are_one_again_when_annealing_whatever_the_number_of_epochs(epochs):
    pool = make_pool(50)
    method = begun(InfoBatch(anneal_from=0.875, epochs=epochs), pool, 0.5)
    for epoch in range(int(np.ceil(epochs))):
        ids, weights = plan(method, epoch)
        if epoch == 0 or epoch >= 0.875 * epochs:
            assert sorted(ids) == list(range(50))
            assert weights is None
        else:
            assert len(ids) < 50
            assert weights.max() > 1
        method.observe(ids, np.random.default_rng(epoch).random(len(ids)).astype(np.float32))


def test_infobatch_keeps_the_losses_of_ids_beyond_what_a_float_can_count():
    base = 2**24
    ids = np.array([base + 1, base + 2, base + 3])
    pool = Pool(ids, {"x": np.broadcast_to(np.float32(0), (base + 4, 1))}, data_digest="d")
    method = begun(InfoBatch(), pool, 0.5)
    method.observe(np.array([base + 2]), np.array([9.0], np.float32))
    method.observe(np.array([base + 1, base + 3]), np.array([0.1, 0.1], np.float32))
    ids, weights = plan(method, 1)
    assert base + 2 in ids
    assert weights[ids != base + 2].tolist() == [2.0]


def test_infobatch_ignores_losses_that_are_not_finite():
    method = begun(InfoBatch(), make_pool(4), 0.5)
    method.observe(np.arange(4), np.array([np.nan, 1, 2, np.inf], np.float32))
    assert np.isfinite(plan(method, 1)[1]).all()


def test_the_hardest_candidates_get_the_weight():
    method = begun(HardestBatches(), make_pool(40), 0.25)
    assert method.candidate_factor == 4
    losses = np.array([0.1, 5, 0.2, 3, 0.3, 0.4, 0.5, 4], np.float32)
    assert method.reweight(np.arange(8), losses).tolist() == [0, 1, 0, 0, 0, 0, 0, 1]
    easiest = begun(HardestBatches(reverse=True), make_pool(40), 0.25)
    assert easiest.reweight(np.arange(8), losses).tolist() == [1, 0, 1, 0, 0, 0, 0, 0]


def test_a_batch_of_candidates_always_leaves_something_to_train_on():
    assert highest(np.array([np.nan, 1.0]), 2).tolist() == [0, 1]
    assert highest(np.array([np.nan]), 10).tolist() == [1]


@pytest.mark.parametrize("keep_fraction", [0.4, 0.75])
def test_candidates_come_in_whole_batches(keep_fraction):
    with pytest.raises(ConfigError, match="one over a whole number"):
        begun(HardestBatches(), make_pool(10), keep_fraction)


def test_reducible_loss_subtracts_what_the_holdout_model_leaves_and_prefers_learnable_examples():
    """Noisy examples keep a high loss under the holdout model; hardest-first takes them, reducible loss does not."""
    irreducible = np.zeros(100)
    irreducible[:50] = 3.0  # noise: nobody can learn these
    method = begun(ReducibleLoss(held_fraction=0.2), make_pool(100), 0.5, loss_proxy(irreducible))
    ids = plan(method, 0)[0]
    assert len(ids) == 80  # the held-out examples are not trained on
    losses = np.where(ids < 50, 3.1, 1.0).astype(np.float32)
    chosen = ids[method.reweight(ids, losses) > 0]
    assert (chosen >= 50).mean() > (ids >= 50).mean()
    hardest = begun(HardestBatches(), make_pool(100), 0.5)
    assert (ids[hardest.reweight(ids, losses) > 0] < 50).mean() > 0.5


def test_the_curriculum_opens_easy_examples_first_and_the_anti_curriculum_hard_ones():
    difficulty = np.arange(100.0)
    for order, first in (("easy_first", range(20)), ("hard_first", range(80, 100))):
        method = begun(Curriculum(order, start_fraction=0.2, epochs_to_full=4), make_pool(100), 1.0, loss_proxy(difficulty))
        assert sorted(plan(method, 0)[0]) == list(first)
        assert sorted(plan(method, 4)[0]) == list(range(100))
    control = begun(Curriculum("random", start_fraction=0.2), make_pool(100), 1.0)
    assert abs(np.mean(plan(control, 0)[0]) - 49.5) < 25


def test_the_open_share_grows_linearly_to_everything():
    assert [open_count(100, e, 0.2, 4) for e in range(6)] == [20, 40, 60, 80, 100, 100]


METHODS = {
    "rs2": lambda: RandomEpochs(),
    "rs2_replacement": lambda: RandomEpochs(replacement=True),
    "infobatch": lambda: InfoBatch(epochs=6),
    "hardest": lambda: HardestBatches(),
    "reducible": lambda: ReducibleLoss(),
    "curriculum": lambda: Curriculum(),
}


def run(method, epochs, start=0):
    """Everything that a method decides over some epochs, with losses that depend on id and epoch alone."""
    decided = []
    for epoch in range(start, epochs):
        ids, weights = plan(method, epoch)
        decided.append((ids.tolist(), None if weights is None else weights.tolist()))
        for batch in np.array_split(ids, 3):
            losses = ((batch * 7919 + epoch * 31) % 101 / 101).astype(np.float32)
            again = method.reweight(batch, losses)
            decided.append(None if again is None else again.tolist())
            method.observe(batch, losses)
    return decided


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_method_decides_as_if_it_had_never_stopped(name, stop):
    pool, proxy = make_pool(37), loss_proxy(np.arange(37) % 5)
    whole = run(begun(METHODS[name](), pool, 0.5, proxy), 6)
    first = begun(METHODS[name](), pool, 0.5, proxy)
    head = run(first, stop)
    resumed = METHODS[name]()  # select is not run again: what it prepared is in the state
    resumed.load_state_dict(first.state_dict())
    assert plan(resumed, stop - 1, seed=99)[0].tolist() == plan(first, stop - 1)[0].tolist()  # the running epoch, mid-way
    assert head + run(resumed, 6, start=stop) == whole


@pytest.mark.parametrize("name", METHODS)
def test_a_checkpoint_takes_the_state_without_a_warning(name):
    method = begun(METHODS[name](), make_pool(20), 0.5, loss_proxy(np.arange(20)))
    run(method, 1)
    state = method.state_dict()
    arrays = [value for value in (*state.values(), *state["own"].values()) if isinstance(value, np.ndarray)]
    assert arrays and all(array.flags.writeable for array in arrays)


@pytest.mark.parametrize("name", METHODS)
def test_no_global_random_state_is_touched(name):
    np.random.seed(5)
    random.seed(5)
    before = np.random.get_state()[1].tolist(), random.getstate()
    run(begun(METHODS[name](), make_pool(20), 0.5, loss_proxy(np.arange(20))), 2)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before


@pytest.mark.parametrize("name", METHODS)
def test_a_pool_of_one_is_served(name):
    method = begun(METHODS[name](), make_pool(2), 0.5, loss_proxy([0.0, 1.0]))
    assert all(len(plan(method, e)[0]) >= 1 for e in range(3))
