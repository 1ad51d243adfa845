"""The pool, the selection and its file, and the rules that every method is run under."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timetrial.data_pipelines.curation.context import make_context
from timetrial.data_pipelines.curation.interface import CurationMethod, DynamicMethod, Pool, Selection, curate
from timetrial.data_pipelines.curation.selection import Cost
from timetrial.suite.clock import Bucket, Clock
from timetrial.suite.errors import ConfigError, DataError, NeedsUnmet, UnknownName, UserError

PATIENT = settings(deadline=None)  # machines are shared: how long an example takes is no property of the code
SPLIT = {"pixels": np.arange(40, dtype=np.float32).reshape(10, 4), "label": np.arange(10) % 3}
TRAINING = np.array([0, 2, 3, 5, 7, 8])  # 1, 4, 6 and 9 are validation examples


def make_pool(ids=TRAINING, digest="v1", label="label"):
    return Pool(ids, SPLIT, data_digest=digest, label=label, facts={"classes": 3})


def context(pool, seed=0, **services):
    return make_context(pool, np.random.default_rng(seed), **services)


class Method(CurationMethod):
    def __init__(self, choose, needs_labels=False, own_size=False):
        self.choose, self.needs_labels, self.own_size = choose, needs_labels, own_size

    def select(self, pool, keep_fraction, context):
        return Selection(self.choose(pool), keep_fraction, pool.digest)


def test_a_pool_gives_the_rows_of_its_ids():
    pool = make_pool()
    assert len(pool) == 6
    assert pool.field("pixels")[:, 0].tolist() == [0, 8, 12, 20, 28, 32]
    assert pool.labels.tolist() == [0, 2, 0, 2, 1, 2]
    assert pool.inputs == ("pixels",)
    assert pool.rows("pixels", np.array([5, 0]))[:, 0].tolist() == [32, 0]
    assert pool.rows("pixels", slice(1, 3))[:, 0].tolist() == [8, 12]


def test_no_call_of_a_pool_reaches_an_example_outside_it():
    pool = make_pool()
    for beyond in ([6], [-1], [0, 9], [1.5]):
        with pytest.raises(UserError, match="positions"):
            pool.rows("pixels", np.array(beyond))
    with pytest.raises(UserError, match="the first is 4"):
        pool.positions(np.array([2, 4, 6]))
    validation = SPLIT["pixels"][[1, 4, 6, 9], 0]
    reachable = set(pool.field("pixels")[:, 0]) | set(pool.rows("pixels", slice(None))[:, 0])
    assert reachable.isdisjoint(validation.tolist())


def test_labels_are_no_input_and_are_withheld_from_methods_that_do_not_declare_them():
    pool = make_pool()
    with pytest.raises(UnknownName, match="pixels"):
        pool.field("label")
    pool.labels  # noqa: B018 (gathered before the view is made)
    view = pool.without_labels()
    assert not view.has_labels
    with pytest.raises(NeedsUnmet, match="needs_labels"):
        view.labels  # noqa: B018
    with pytest.raises(UnknownName):
        view.field("label")


def test_pool_arrays_cannot_be_written():
    pool = make_pool(np.arange(10))
    with pytest.raises(ValueError, match="read-only"):
        pool.field("pixels")[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        pool.ids[0] = 1


@pytest.mark.parametrize("ids", [[], [3, 2], [2, 2], [-1, 2], [1.0, 2.0], [[1, 2]], [3, 10]])
def test_ids_that_are_no_pool_are_refused(ids):
    with pytest.raises(DataError):
        make_pool(np.array(ids))


def test_the_digest_names_the_data_version_and_the_ids():
    assert make_pool().digest == make_pool().digest
    assert make_pool().digest != make_pool(digest="v2").digest
    assert make_pool().digest != make_pool(TRAINING[:-1]).digest


def test_a_raw_list_in_any_order_becomes_a_selection():
    pool = make_pool()
    chosen = Selection.of(pool, np.array([8, 2, 5]))
    assert chosen.ids.tolist() == [2, 5, 8]
    assert chosen.keep_fraction == 0.5
    assert chosen.counts is None


def test_repeats_are_refused_unless_counted():
    pool = make_pool()
    with pytest.raises(UserError, match="1 ids are repeated, the first is 5"):
        Selection.of(pool, np.array([5, 5, 2]))
    counted = Selection.of(pool, np.array([5, 5, 2]), repeats="count")
    assert counted.counts.tolist() == [1, 2]
    assert counted.epoch()[0].tolist() == [2, 5, 5]
    assert counted.epoch_size == 3


@pytest.mark.parametrize("ids", [[1], [2, 100], [], [0.5], [[2]]])
def test_ids_that_the_pool_does_not_have_are_refused(ids):
    with pytest.raises(UserError):
        Selection.of(make_pool(), np.array(ids))


@pytest.mark.parametrize(
    "parts",
    [
        {"ids": [2, 1]},
        {"ids": []},
        {"ids": [1.5]},
        {"counts": [1, 0]},
        {"counts": [1]},
        {"weights": [1.0, -1.0]},
        {"weights": [1.0, np.nan]},
        {"weights": [[1.0, 1.0]]},
    ],
)
def test_a_selection_whose_parts_contradict_each_other_is_refused(parts):
    with pytest.raises(DataError):
        Selection(**{"ids": np.array([1, 2]), "keep_fraction": 0.5, "pool_digest": "x"} | {k: np.array(v) for k, v in parts.items()})


def test_a_selection_of_another_version_of_the_data_is_refused():
    chosen = Selection.of(make_pool(), np.array([2]))
    assert chosen.checked(make_pool()) is chosen
    with pytest.raises(DataError, match="another data set, version or split"):
        chosen.checked(make_pool(digest="v2"))


@PATIENT
@given(st.sets(st.sampled_from(TRAINING.tolist()), min_size=1), st.booleans(), st.booleans())
def test_a_selection_file_gives_back_what_was_written(tmp_path_factory, ids, counted, weighted):
    chosen = Selection(
        np.array(sorted(ids)),
        0.25,
        make_pool().digest,
        {"method": "x", "nested": {"a": [1, 2]}},
        np.arange(1, len(ids) + 1) if counted else None,
        np.linspace(0, 3, len(ids), dtype=np.float32) if weighted else None,
        Cost(1.5, 2.5, {"embed": 1.0}),
    )
    path = tmp_path_factory.mktemp("selection") / "selection.npz"
    chosen.write(path)
    once = path.read_bytes()
    back = Selection.read(path)
    assert back.digest == chosen.digest
    assert (back.provenance, back.cost, back.keep_fraction) == (chosen.provenance, chosen.cost, chosen.keep_fraction)
    back.write(path)
    assert path.read_bytes() == once


def test_the_digest_is_of_what_is_kept_and_of_nothing_else():
    base = Selection(np.array([1, 2]), 0.5, "p")
    assert Selection(np.array([1, 2]), 0.3, "p", {"method": "other"}, cost=Cost(1, 1)).digest == base.digest
    others = [
        Selection(np.array([1, 3]), 0.5, "p"),
        Selection(np.array([1, 2]), 0.5, "q"),
        Selection(np.array([1, 2]), 0.5, "p", counts=np.array([1, 1])),
        Selection(np.array([1, 2]), 0.5, "p", weights=np.array([1, 1.0])),
    ]
    assert len({base.digest, *(o.digest for o in others)}) == 5


def test_damaged_selection_files_are_refused(tmp_path):
    path = tmp_path / "s.npz"
    Selection(np.array([1, 2, 3]), 0.5, "p").write(path)
    whole = path.read_bytes()
    for damaged in (whole[:-20], whole[: len(whole) // 2], b"", b"no zip"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="not a readable selection"):
            Selection.read(path)
    with pytest.raises(DataError):
        Selection.read(tmp_path / "missing.npz")


def test_exchanged_ids_do_not_fit_the_header(tmp_path):
    honest, other = tmp_path / "a.npz", tmp_path / "b.npz"
    Selection(np.array([1, 2, 3]), 0.5, "p").write(honest)
    Selection(np.array([1, 2, 4]), 0.5, "p").write(other)
    with zipfile.ZipFile(honest) as a, zipfile.ZipFile(other) as b, zipfile.ZipFile(tmp_path / "c.npz", "w") as forged:
        forged.writestr("ids.npy", b.read("ids.npy"))
        forged.writestr("header.npy", a.read("header.npy"))
    with pytest.raises(DataError, match="altered"):
        Selection.read(tmp_path / "c.npz")


def test_a_plain_array_file_is_no_selection(tmp_path):
    np.savez(tmp_path / "x.npz", ids=np.arange(3), header=np.frombuffer(json.dumps({"format": "else"}).encode(), np.uint8))
    with pytest.raises(DataError, match="expected format"):
        Selection.read(tmp_path / "x.npz")


def test_a_method_gets_labels_only_when_it_declares_them():
    pool = make_pool()
    peeking = Method(lambda view: view.ids[view.labels == 2])
    with pytest.raises(NeedsUnmet, match="withheld"):
        curate(peeking, pool, 0.5, context(pool))
    declared = Method(lambda view: view.ids[view.labels == 2], needs_labels=True)
    assert curate(declared, pool, 0.5, context(pool)).ids.tolist() == [2, 5, 8]
    with pytest.raises(NeedsUnmet, match="this pool has none"):
        curate(declared, make_pool(label=None), 0.5, context(pool))


def test_a_method_must_keep_what_was_asked_for():
    pool = make_pool()
    with pytest.raises(DataError, match="kept 2 of 6 examples; keep_fraction 0.5 is 3"):
        curate(Method(lambda view: view.ids[:2]), pool, 0.5, context(pool))
    assert len(curate(Method(lambda view: view.ids[:2], own_size=True), pool, 1.0, context(pool))) == 2
    with pytest.raises(DataError, match="kept 2"):
        curate(Method(lambda view: view.ids[:2], own_size=True), pool, 0.5, context(pool))


@pytest.mark.parametrize("ids", [[1, 2, 3], [2, 3, 100]])
def test_a_method_that_returns_ids_outside_the_pool_is_refused(ids):
    pool = make_pool()
    with pytest.raises(UserError, match="not in the pool"):
        curate(Method(lambda view: np.array(ids)), pool, 0.5, context(pool))


@pytest.mark.parametrize("keep_fraction", [0, 1.5, -1])
def test_a_budget_outside_the_pool_is_refused_before_the_method_runs(keep_fraction):
    pool = make_pool()
    with pytest.raises(ConfigError, match="keep_fraction"):
        curate(Method(lambda view: pytest.fail("the method ran")), pool, keep_fraction, context(pool))


def test_spans_do_not_nest_and_have_known_names():
    made = context(make_pool())
    with pytest.raises(RuntimeError, match="inside span 'cluster'"), made.span("cluster"), made.span("score"):
        pass
    with pytest.raises(ValueError, match="expected one of"), made.span("dreaming"):
        pass


def test_an_injected_wait_in_the_selector_moves_its_span_and_nothing_else():
    ticks = [0.0]
    clock = Clock(now=lambda: ticks[0], cpu_now=lambda: ticks[0])

    class Waits(CurationMethod):
        def __init__(self, seconds):
            self.seconds = seconds

        def select(self, pool, keep_fraction, context):
            with context.span("cluster"):
                ticks[0] += 2.0
            with context.span("score"):
                ticks[0] += self.seconds
            return Selection(pool.ids, keep_fraction, pool.digest)

    pool = make_pool()
    seen = {}
    for seconds in (1.0, 6.0):
        before = clock.read()
        with clock.bucket(Bucket.CURATE):
            curate(Waits(seconds), pool, 1.0, context(pool, span=clock.span))
        after = clock.read()
        seen[seconds] = {k: after.span_seconds[k] - before.span_seconds.get(k, 0.0) for k in after.span_seconds}
        seen[seconds]["charged"] = after.charged_seconds - before.charged_seconds
    assert seen[6.0] == {"curate/cluster": 2.0, "curate/score": 6.0, "charged": 8.0}
    assert seen[6.0]["charged"] - seen[1.0]["charged"] == 5.0


def test_a_dynamic_method_repeats_the_running_epochs_plan_and_makes_new_ones():
    class Draws(DynamicMethod):
        def prepare(self, pool, keep_fraction, context): ...

        def plan_epoch(self, epoch, generator):
            return generator.permutation(self.ids), None

        def state(self):
            return {}

        def load_state(self, state): ...

    pool, method = make_pool(), Draws()
    curate(method, pool, 0.5, context(pool))
    first = method.begin_epoch(0, np.random.default_rng(0))[0]
    assert method.begin_epoch(0, np.random.default_rng(99))[0].tolist() == first.tolist()
    assert method.begin_epoch(1, np.random.default_rng(99))[0].tolist() != first.tolist()
