"""Every static method by name: exact size, same seed same choice, labels only where declared, and the right direction on planted data.

A direction test plants what the method claims to find, and holds its choice against its own reversal (what it would drop first).
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.nn.functional import cross_entropy

from timetrial.data_pipelines.curation.context import make_context
from timetrial.data_pipelines.curation.controls import LabelShuffled, Reversed
from timetrial.data_pipelines.curation.gradient_norms import gradient_norms
from timetrial.data_pipelines.curation.interface import CurationMethod, DynamicMethod, Pool, ProxyEpoch, ProxyRun, curate
from timetrial.data_pipelines.curation.quantization import graph_cut_bins
from timetrial.data_pipelines.curation.selection import kept_count
from timetrial.data_pipelines.curation.submodular import cosine_similarities
from timetrial.suite.algorithm import Batch
from timetrial.suite.clock import Bucket, Clock
from timetrial.suite.config import instantiate, resolve_definition
from timetrial.suite.errors import ConfigError, NeedsUnmet, UnknownName
from timetrial.suite.registry import names

# what the shipped options would make slow or impossible on a hundred examples
SMALL = {
    **{name: {"clusters": 8} for name in ("semdedup", "d4", "dbp")},
    **{name: {"epochs": 5} for name in ("forgetting", "aum", "ccs", "d2")},
    "hierarchical": {"levels": [16, 4], "near": 5},
    "memorization": {"runs": 4, "epochs": 2},
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Matrices this small are slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


OTHER_INPUTS = {"all", "ids", "perceptual_dedup", "minhash_dedup"}  # files, pictures and texts have tests of their own
STATIC = [name for name in names("curation") if resolve_definition("curation", name).kind == "static" and name not in OTHER_INPUTS]


def make(name, **options):
    found = resolve_definition("curation", name)
    return instantiate(found.target, {**found.options, **SMALL.get(name, {}), **options}, CurationMethod)


def losses_of(model, batch):
    return cross_entropy(model(batch["x"]), batch["label"], reduction="none")


def proxy_for(pool):
    """A real proxy training: an MLP on the pool's vectors, reported in eval mode after every epoch."""
    x, given = torch.from_numpy(np.array(pool.field("x"))), torch.from_numpy(np.array(pool.labels))
    classes = int(given.max()) + 1

    def train(epochs, seed, *, subset=None, labels=None, collect=(), every_epoch=None):
        y = given if labels is None else torch.from_numpy(labels)
        rows = torch.arange(len(x)) if subset is None else torch.from_numpy(subset)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Linear(x.shape[1], 32), nn.ReLU(), nn.Linear(32, classes))
            optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
            history = []
            for epoch in range(max(1, round(epochs))):
                for step in torch.randperm(len(rows)).split(50) if epochs else ():
                    optimizer.zero_grad()
                    cross_entropy(model(x[rows[step]]), y[rows[step]]).backward()
                    optimizer.step()
                history.append(report(model, x, y, min(epoch + 1, epochs), collect))
                if every_epoch is not None:
                    every_epoch(history.pop())
        return ProxyRun(tuple(history))

    return train


@torch.no_grad()
def report(model, x, y, epoch, collect):
    hidden = model[:2](x)
    logits = model[2](hidden)
    extra = {"logits": logits.numpy(), "features": hidden.numpy()}
    if "gradient_norms" in collect:
        with torch.enable_grad():
            extra["gradient_norms"] = gradient_norms(model, losses_of, Batch(torch.arange(len(x)), {"x": x, "label": y})).numpy()
    losses = cross_entropy(logits, y, reduction="none").numpy()
    return ProxyEpoch(epoch, losses, **{name: value for name, value in extra.items() if name in collect})


def choose(method, pool, keep_fraction, seed=0, proxy=True):
    services = {"train_proxy": proxy_for(pool)} if proxy and pool.has_labels else {}
    return curate(method, pool, keep_fraction, make_context(pool, np.random.default_rng(seed), **services))


def make_pool(x, y, ids=None, digest="planted"):
    ids = np.arange(len(x)) if ids is None else ids
    full_x, full_y = np.zeros((ids[-1] + 1, *x.shape[1:]), x.dtype), np.zeros(ids[-1] + 1, np.int64)
    full_x[ids], full_y[ids] = x, y
    return Pool(ids, {"x": full_x, "label": full_y}, data_digest=digest, label="label", facts={"classes": int(y.max()) + 1})


def plain_pool(n=120, seed=0):
    """Four blobs in six dimensions under ids with gaps."""
    rng = np.random.default_rng(seed)
    y = rng.integers(4, size=n)
    x = (np.eye(6)[y] * 2 + rng.normal(size=(n, 6))).astype(np.float32)
    return make_pool(x, y, ids=np.sort(rng.choice(3 * n, n, replace=False)))


@pytest.mark.parametrize("name", STATIC)
def test_every_method_keeps_exactly_what_is_asked_for_and_the_same_again(name):
    pool = plain_pool()
    for keep_fraction in (0.1, 0.37, 1.0):
        chosen = choose(make(name), pool, keep_fraction)
        assert chosen.digest == choose(make(name), pool, keep_fraction).digest
        assert set(chosen.ids) <= set(pool.ids)
        json.dumps(dict(chosen.provenance), allow_nan=False)
        if not (make(name).own_size and keep_fraction == 1):
            assert len(chosen) == kept_count(len(pool), keep_fraction)
        if chosen.weights is not None:
            assert chosen.weights.mean() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("name", STATIC)
def test_the_definition_declares_what_the_method_declares(name):
    definition, method = resolve_definition("curation", name), make(name)
    assert definition.needs_labels == method.needs_labels
    assert not isinstance(method, DynamicMethod)
    if method.needs_labels:
        pool = plain_pool()
        with pytest.raises(NeedsUnmet):
            curate(method, pool.without_labels(), 0.5, make_context(pool.without_labels(), np.random.default_rng(0)))


@pytest.mark.parametrize("name", [n for n in names("curation") if resolve_definition("curation", n).kind == "dynamic"])
def test_dynamic_definitions_name_dynamic_methods(name):
    definition, method = resolve_definition("curation", name), make(name)
    assert isinstance(method, DynamicMethod)
    assert definition.needs_labels == method.needs_labels
    assert len(choose(method, plain_pool(), 0.5)) == 120


@pytest.mark.parametrize("name", STATIC)
def test_spans_never_overlap_and_stay_inside_the_bucket(name):
    pool, clock = plain_pool(), Clock()
    with clock.bucket(Bucket.CURATE):
        context = make_context(pool, np.random.default_rng(0), span=clock.span, train_proxy=proxy_for(pool))
        curate(make(name), pool, 0.5, context)
    reading = clock.read()
    assert 0 < sum(reading.span_seconds.values()) <= reading.charged_seconds


@pytest.mark.parametrize("name", STATIC)
def test_a_pool_of_one_class_and_one_of_few_examples_are_no_problem(name):
    few = make_pool(np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32), np.array([0, 1, 0, 1, 0, 1, 1]))
    assert len(choose(make(name), few, 0.4)) == 3
    rng = np.random.default_rng(1)
    one_class = make_pool(rng.normal(size=(30, 3)).astype(np.float32), np.zeros(30, np.int64))
    if name != "margin":  # the gap between two classes needs two
        assert len(choose(make(name), one_class, 0.5)) == 15


# --- directions ---------------------------------------------------------------------------------------------------------------------


def curved(x):
    return (x[:, 0] > 0.6 * np.sin(2.5 * x[:, 1])).astype(np.int64)


def boundary_pool(seed, n=500):
    """Abundant easy mass far from a curved boundary, and few points near it: the boundary is in the hard examples alone."""
    rng = np.random.default_rng(seed)
    easy = np.stack([rng.choice([-2.5, 2.5], n) + 0.2 * rng.normal(size=n), rng.uniform(-2, 2, n)], axis=1)
    near = np.stack([rng.uniform(-1.2, 1.2, n), rng.uniform(-2, 2, n)], axis=1)
    x = np.where((np.arange(n) % 4 == 0)[:, None], near, easy).astype(np.float32)
    return make_pool(x, curved(x)), None


def nearest_neighbour_accuracy(pool, ids, test, truth):
    kept = pool.positions(ids)
    rule = KNeighborsClassifier(1).fit(pool.field("x")[kept], pool.labels[kept])
    return (rule.predict(test) == truth).mean()


def boundary_accuracy(planted, ids, seed):
    rng = np.random.default_rng(1000 + seed)
    test = np.stack([rng.uniform(-1.2, 1.2, 1000), rng.uniform(-2, 2, 1000)], axis=1)
    return nearest_neighbour_accuracy(planted[0], ids, test, curved(test))


def closeness_to_boundary(planted, ids, seed):
    x = planted[0].field("x")[planted[0].positions(ids)]
    return -np.abs(x[:, 0] - 0.6 * np.sin(2.5 * x[:, 1])).mean()


def noisy_pool(seed, n=400):
    """Blobs of which 20 % carry the label of another one."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(4, size=n)
    x = (np.eye(4)[truth] * 4 + rng.normal(size=(n, 4))).astype(np.float32)
    y = np.where(rng.random(n) < 0.2, (truth + rng.integers(1, 4, size=n)) % 4, truth)
    pool = make_pool(x, y)
    return pool, truth


def clean_share(planted, ids, seed):
    pool, truth = planted
    kept = pool.positions(ids)
    return (pool.labels[kept] == truth[kept]).mean()


def outlier_pool(seed, n=300):
    """Tight blobs, and 15 % far outliers whose labels mean nothing."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    x = np.eye(6)[y] * 5 + 0.3 * rng.normal(size=(n, 6))
    out = rng.random(n) < 0.15
    x[out] = 4 * rng.normal(size=(out.sum(), 6))
    truth = np.where(out, -1, y)
    return make_pool(x.astype(np.float32), y), truth


def copied_pool(seed, unique=60):
    """Sixty pictures, copied by a power law with a little jitter; label: the kind of picture."""
    rng = np.random.default_rng(seed)
    pictures = rng.normal(size=(unique, 12))
    times = np.minimum(rng.zipf(1.7, size=unique), 60)
    source = np.repeat(np.arange(unique), times)
    order = rng.permutation(len(source))
    source = source[order]
    x = (pictures[source] + 0.01 * rng.normal(size=(len(source), 12))).astype(np.float32)
    return make_pool(x, (pictures[source, 0] > 0).astype(np.int64)), source


def pictures_kept(planted, ids, seed):
    pool, source = planted
    return len(set(source[pool.positions(ids)]))


def exactly_copied_pool(seed):
    pool, source = copied_pool(seed)
    first = {s: i for i, s in reversed(list(enumerate(source)))}
    x = pool.field("x")[[first[s] for s in source]]
    return make_pool(x, pool.labels), source


def skewed_pool(seed, n=400):
    """A skewed cloud, whose mean lies far from most of its points."""
    rng = np.random.default_rng(seed)
    return make_pool(rng.exponential(size=(n, 6)).astype(np.float32), rng.integers(2, size=n)), None


def closeness_of_means(planted, ids, seed):
    pool = planted[0]
    x, y, kept = pool.field("x"), pool.labels, pool.positions(ids)
    return -sum(np.linalg.norm(x[kept][y[kept] == c].mean(axis=0) - x[y == c].mean(axis=0)) for c in (0, 1))


def bridge_points(rng, n):
    """Points between two of four corners; the class changes at 35 % of the way from the lower one, not in the middle."""
    start, end = np.sort(rng.permuted(np.tile(np.arange(4), (n, 1)), axis=1)[:, :2], axis=1).T
    way = rng.uniform(0.15, 0.7, n)[:, None]
    x = 5 * ((1 - way) * np.eye(8)[start] + way * np.eye(8)[end]) + 0.1 * rng.normal(size=(n, 8))
    return x, np.where(way[:, 0] < 0.35, start, end)


def bridged_pool(seed, n=500):
    """Four tight blobs, and 20 % of the points on the bridges between them."""
    rng = np.random.default_rng(seed)
    y = rng.integers(4, size=n)
    x = 5 * np.eye(8)[y] + 0.3 * rng.normal(size=(n, 8))
    bridges = rng.random(n) < 0.2
    x[bridges], y[bridges] = bridge_points(rng, int(bridges.sum()))
    return make_pool(x.astype(np.float32), y), None


def bridge_accuracy(planted, ids, seed):
    test, truth = bridge_points(np.random.default_rng(1000 + seed), 1000)
    return nearest_neighbour_accuracy(planted[0], ids, test, truth)


def long_tailed_pool(seed, n=300):
    """Blobs that predict their label, and 10 % loners whose labels no neighbour predicts: right only for who has seen them."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    x = np.stack([4.0 * y - 2, np.zeros(n)], axis=1) + 0.3 * rng.normal(size=(n, 2))
    loners = np.arange(n) % 10 == 0
    x[loners] = 9 * np.stack([np.cos(np.arange(loners.sum())), np.sin(np.arange(loners.sum()))], axis=1)
    y[loners] = np.arange(loners.sum()) % 2
    return make_pool(x.astype(np.float32), y), loners


def planted_share(planted, ids, seed):
    pool, marked = planted
    return marked[pool.positions(ids)].mean()


BOUNDARY = (boundary_pool, boundary_accuracy, 0.15, {})
BRIDGES = (bridged_pool, bridge_accuracy, 0.15, {})
NOISE = (noisy_pool, clean_share, 0.5, {})
OUTLIERS = (outlier_pool, clean_share, 0.5, {})
COPIES = (copied_pool, pictures_kept, 0.3, {})
DIRECTIONS = {
    "el2n": BOUNDARY,
    "grand": BOUNDARY,
    "loss": BOUNDARY,
    "entropy": BOUNDARY,
    "margin": BOUNDARY,
    "least_confidence": BOUNDARY,
    "forgetting": (boundary_pool, closeness_to_boundary, 0.03, {"epochs": 10}),
    "aum": BOUNDARY,
    "tdds": BOUNDARY,
    "dual": BOUNDARY,
    "disagreement": BOUNDARY,
    "cal": BOUNDARY,
    "d2": (boundary_pool, boundary_accuracy, 0.15, {"score": "aum"}),
    "craig": BOUNDARY,
    "gradmatch": BOUNDARY,
    "glister": BOUNDARY,
    "supervised_prototypes": BRIDGES,
    "prototypes": (bridged_pool, bridge_accuracy, 0.15, {"clusters": 4}),
    "dbp": (bridged_pool, bridge_accuracy, 0.15, {"clusters": 4}),
    "prototypes_easy": OUTLIERS,
    "moderate": NOISE,
    "label_noise": NOISE,
    "memorization": (long_tailed_pool, planted_share, 0.1, {"runs": 8, "epochs": 5}),
    "exact_dedup": (exactly_copied_pool, pictures_kept, 0.3, {}),
    "semdedup": COPIES,
    "near_dedup": COPIES,
    "d4": COPIES,
    "hierarchical": (copied_pool, pictures_kept, 0.3, {"levels": [60, 8]}),
    "k_center": COPIES,
    "facility_location": COPIES,
    "log_determinant": COPIES,
    "herding": (skewed_pool, closeness_of_means, 0.1, {}),
}
# No reversal of their own: the baselines and controls; dq draws evenly from all its bins, ccs spreads, and graph_cut is not monotone, so
# that what it takes last is as central as what it takes first. These are tested below by what they claim.
WITHOUT_DIRECTION = {"random", "stratified_random", "random_score", "input_norm", "reversed", "label_shuffled", "dq", "ccs", "graph_cut"}
SEEDS = range(3)


def test_every_static_method_has_a_direction_or_says_why_not():
    assert set(DIRECTIONS) | WITHOUT_DIRECTION == set(STATIC)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_method_beats_its_own_reversal_on_planted_data_with_every_seed(name):
    plant, measure, keep_fraction, options = DIRECTIONS[name]
    options = SMALL.get(name, {}) | options
    for seed in SEEDS:
        planted = plant(seed)
        ours = choose(make(name, **options), planted[0], keep_fraction, seed)
        reversal = choose(Reversed(name, options), planted[0], keep_fraction, seed)
        assert measure(planted, ours.ids, seed) > measure(planted, reversal.ids, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_under_label_noise_coverage_keeps_clean_examples_where_its_score_alone_keeps_the_noise(seed):
    planted = noisy_pool(seed)
    share = {name: clean_share(planted, choose(make(name), planted[0], 0.1, seed).ids, seed) for name in ("ccs", "aum", "random")}
    assert share["ccs"] > share["random"] > share["aum"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_graph_cut_takes_representatives_not_outliers(seed):
    planted = outlier_pool(seed)
    share = {name: clean_share(planted, choose(make(name), planted[0], 0.1, seed).ids, seed) for name in ("graph_cut", "random")}
    assert share["graph_cut"] == 1.0 > share["random"]


def test_dataset_quantization_draws_from_every_bin_what_a_graph_cut_takes_from_the_first():
    pool = plain_pool(400)
    vectors = pool.field("x") - pool.field("x").mean(axis=0)
    for name, evenly in (("dq", True), ("graph_cut", False)):
        kept = pool.positions(choose(make(name), pool, 0.2).ids)
        for c in range(4):
            members = np.flatnonzero(pool.labels == c)
            bins = graph_cut_bins(cosine_similarities(vectors[members]), 5)
            counts = np.bincount(bins[np.isin(members, kept)], minlength=5)
            assert (np.ptp(counts) <= 6) == evenly


# --- controls -----------------------------------------------------------------------------------------------------------------------


def test_reversing_a_score_keeps_its_lowest_values():
    pool = plain_pool()
    norms = np.linalg.norm(pool.field("x"), axis=1)
    lowest = pool.ids[np.sort(np.argsort(norms)[:36])]
    assert choose(Reversed("input_norm"), pool, 0.3).ids.tolist() == lowest.tolist()
    assert choose(Reversed("input_norm"), pool, 1.0).ids.tolist() == pool.ids.tolist()


def test_shuffled_labels_take_a_labelled_methods_knowledge_away():
    planted = noisy_pool(0)
    real = clean_share(planted, choose(make("label_noise"), planted[0], 0.5).ids, 0)
    shuffled = clean_share(planted, choose(LabelShuffled("label_noise"), planted[0], 0.5).ids, 0)
    assert real > 0.95
    assert shuffled < 0.9


def test_a_control_of_a_control_or_of_a_dynamic_method_is_refused():
    for name in ("reversed", "label_shuffled", "rs2"):
        with pytest.raises(ConfigError, match="static method that is no control"):
            Reversed(name)
    with pytest.raises(UnknownName, match="el2n"):
        Reversed("el2nn")


def test_input_norm_has_no_direction_on_data_whose_length_means_nothing():
    """Against random over seeds: no better. The trap is a score that looks like one."""
    gains = []
    for seed in range(6):
        planted = noisy_pool(seed)
        gains.append(clean_share(planted, choose(make("input_norm"), planted[0], 0.3, seed).ids, seed) - 0.8)
    assert abs(np.mean(gains)) < 0.1


# --- what proxies report ------------------------------------------------------------------------------------------------------------


def test_gradient_norms_equal_one_backward_pass_per_example():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 3))
    model(torch.randn(50, 5))  # running statistics
    model.eval()
    x, y = torch.randn(11, 5), torch.randint(3, (11,))
    expected = []
    for i in range(11):
        gradients = torch.autograd.grad(cross_entropy(model(x[i : i + 1]), y[i : i + 1]), model.parameters())
        expected.append(sum(float(g.square().sum()) for g in gradients) ** 0.5)
    found = gradient_norms(model, losses_of, Batch(torch.arange(11), {"x": x, "label": y}))
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    halves = [gradient_norms(model, losses_of, Batch(torch.arange(len(p)), {"x": x[p], "label": y[p]})) for p in torch.arange(11).split(4)]
    assert torch.cat(halves).tolist() == pytest.approx(found.tolist(), rel=1e-6)


def test_a_method_that_needs_a_proxy_says_so_where_there_is_only_data():
    with pytest.raises(NeedsUnmet, match="trains a proxy model"):
        choose(make("el2n"), plain_pool(), 0.5, proxy=False)
    with pytest.raises(NeedsUnmet, match="trains the workload's model"):
        choose(make("moderate"), plain_pool(), 0.5, proxy=False)


def test_a_method_whose_memory_would_not_suffice_says_what_it_needs():
    pool = plain_pool()
    context = make_context(pool, np.random.default_rng(0), train_proxy=proxy_for(pool), memory_bytes=100)
    for name in ("facility_location", "craig"):
        with pytest.raises(ConfigError, match="bytes of 100"):
            curate(make(name), pool, 0.5, context)
