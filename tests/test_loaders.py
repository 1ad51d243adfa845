"""Loaders: the FFCV and the torch path serve the same bits, fail loudly and leave nothing behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timetrial.data_pipelines import decoder, loaders
from timetrial.data_pipelines.augment import Augmentation, augment
from timetrial.data_pipelines.batcher import Batcher
from timetrial.data_pipelines.beton import write_beton
from timetrial.data_pipelines.dataset import Field, FieldKind, Split
from timetrial.data_pipelines.loaders import FfcvLoader, Loader, TorchLoader, make_loader
from timetrial.suite.errors import ConfigError, DataError, DataMissing, LoaderError, UnknownName, UserError

from .jpegs import encoded, jpeg_field

COUNT = 50
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
TRAIN = Augmentation(flip=True, translate=2, cutout=3, mean=MEAN, std=STD, window=9)
BOTH = [TorchLoader, pytest.param(FfcvLoader, marks=pytest.mark.ffcv)]


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Split:
    random = np.random.default_rng(0)
    fields = {
        "image": Field(FieldKind.IMAGE, random.integers(0, 256, (COUNT, 9, 8, 3), dtype=np.uint8)),
        "mask": Field(FieldKind.IMAGE, random.integers(0, 2, (COUNT, 9, 8, 3), dtype=np.uint8)),
        "label": Field(FieldKind.INT, random.integers(0, 10, COUNT)),
        "vector": Field(FieldKind.ARRAY, random.random((COUNT, 5), dtype=np.float32)),
        "tokens": Field(FieldKind.ARRAY, random.integers(0, 60_000, (COUNT, 16)).astype(np.uint16)),
    }
    return written("pixels", fields, tmp_path_factory.mktemp("split"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Split:
    """Encoded pictures of several sizes; number 3 is grey."""
    random = np.random.default_rng(1)
    pictures = [encoded(random, *random.integers(20, 60, 2), mode="L" if i == 3 else "RGB") for i in range(12)]
    fields = {"image": jpeg_field(pictures), "label": Field(FieldKind.INT, np.arange(12))}
    return written("photos", fields, tmp_path_factory.mktemp("photos"))


def written(name: str, fields: dict[str, Field], folder: Path) -> Split:
    write_beton(folder / "x.beton", fields)
    return Split(name, fields, folder / "x.beton", "")


def served(loader: Loader, order: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
    """A whole epoch, chunks joined."""
    chunks = list(loader.serve(order, epoch))
    return {name: np.concatenate([chunk.fields[name].numpy() for chunk in chunks]) for name in chunks[0].fields}


# What is served


@pytest.mark.parametrize("kind", BOTH)
def test_examples_are_served_as_stored_without_an_augmentation(kind, split):
    order = np.array([3, 3, 49, 0, 7])
    with kind(split) as loader:
        out = served(loader, order)
    for name, field in split.fields.items():
        expected = field.values[order]
        expected = expected.transpose(0, 3, 1, 2) if field.kind is FieldKind.IMAGE else expected
        np.testing.assert_array_equal(out[name], expected)
        assert out[name].dtype == expected.dtype


@pytest.mark.parametrize("kind", BOTH)
def test_each_field_is_augmented_by_its_own_rules(kind, split):
    order = np.arange(COUNT)[::-1]
    with kind(split, augmentation=TRAIN, seed=5) as loader:
        out = served(loader, order, epoch=2)
    again = partial(augment, ids=order, epoch=2, seed=5)
    np.testing.assert_array_equal(out["image"], again(split.fields["image"].values[order], augmentation=TRAIN))
    moved = Augmentation(flip=True, translate=2)  # a mask moves with its picture: same flips, same shifts, values kept
    np.testing.assert_array_equal(out["mask"], again(split.fields["mask"].values[order], augmentation=moved))
    rows, windows = split.fields["tokens"].values[order], out["tokens"]
    assert windows.dtype == np.int64
    for row, window in zip(rows, windows, strict=True):
        assert any((row[start : start + 9] == window).all() for start in range(8))
    np.testing.assert_array_equal(out["vector"], split.fields["vector"].values[order])


@pytest.mark.parametrize("kind", BOTH)
def test_nothing_is_random_when_not_training(kind, split):
    with kind(split, augmentation=replace(TRAIN, train=False), seed=5) as loader:
        out, again = served(loader, np.arange(COUNT), 0), served(loader, np.arange(COUNT), 1)
    for name in out:
        np.testing.assert_array_equal(out[name], again[name])
    np.testing.assert_array_equal(out["tokens"], split.fields["tokens"].values[:, :9])


@pytest.mark.parametrize("kind", BOTH)
def test_chunks_have_one_size_and_the_last_may_be_shorter(kind, split):
    with kind(split, ["label", "vector"], chunk_size=7) as loader:
        chunks = list(loader.serve(np.arange(24), 0))
    assert [len(chunk.ids) for chunk in chunks] == [7, 7, 7, 3]
    assert [tuple(chunk.fields["vector"].shape) for chunk in chunks] == [(7, 5), (7, 5), (7, 5), (3, 5)]
    assert all(list(chunk.fields) == ["label", "vector"] for chunk in chunks)


def test_chunks_are_whole_batches_when_the_batch_size_is_known(split):
    with TorchLoader(split, batch_size=8) as loader:
        assert loader.chunk_size % 8 == 0
    with TorchLoader(split, batch_size=8, chunk_size=9) as loader:
        assert loader.chunk_size == 9


# The two paths are one


@pytest.mark.ffcv
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_ffcv_and_torch_serve_the_same_batches(split, data):
    """Any order with repeats, any seed, chunk size, batch size and number of workers; the second half resumed from a state."""
    orders = [np.array(data.draw(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=40))) for _ in range(3)]
    seed, batch_size = data.draw(st.integers(0, 2**63 - 1)), data.draw(st.integers(1, 30))

    def make(kind: type[Loader]) -> Loader:
        chunk_size, workers = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 2))
        loader = kind(split, augmentation=TRAIN, seed=seed, chunk_size=chunk_size, workers=workers)
        loader._inline = data.draw(st.booleans())
        return loader

    def order_of_epoch(epoch: int):
        return orders[epoch % 3], None

    with make(TorchLoader) as plain, make(FfcvLoader) as fast, make(FfcvLoader) as fresh:
        expected, found = Batcher(plain, order_of_epoch), Batcher(fast, order_of_epoch)
        for step in range(12):
            if step == 6:
                state, found = found.state_dict(), Batcher(fresh, order_of_epoch)
                found.load_state_dict(state)
            one, other = expected.next(batch_size), found.next(batch_size)
            assert torch.equal(one.ids, other.ids)
            for name in split.fields:
                assert one[name].dtype == other[name].dtype
                assert torch.equal(one[name], other[name]), name


@pytest.mark.ffcv
@pytest.mark.parametrize("train", [True, False])
def test_ffcv_and_torch_decode_the_same_pictures(photos, train):
    augmentation = Augmentation(resized_crop=16, flip=True, cutout=3, mean=MEAN, std=STD, train=train)
    order = np.array([0, 11, 3, 3, 5, 7])
    with (
        TorchLoader(photos, augmentation=augmentation) as plain,
        FfcvLoader(photos, augmentation=augmentation, chunk_size=2, workers=2) as fast,
    ):
        for epoch in range(3):
            one, other = served(plain, order, epoch), served(fast, order, epoch)
            np.testing.assert_array_equal(one["image"], other["image"])
            np.testing.assert_array_equal(one["label"], order)
            assert one["image"].shape == (6, 3, 16, 16)


@pytest.mark.ffcv
def test_raw_pictures_can_be_cropped_and_resized_too(split):
    augmentation = Augmentation(resized_crop=5, flip=True)
    with TorchLoader(split, ["image", "mask"], augmentation) as plain, FfcvLoader(split, ["image", "mask"], augmentation) as fast:
        one, other = served(plain, np.arange(COUNT)), served(fast, np.arange(COUNT))
    for name in ("image", "mask"):
        np.testing.assert_array_equal(one[name], other[name])
        np.testing.assert_array_equal(one[name], augment(split.fields[name].values, np.arange(COUNT), 0, 0, augmentation))


@pytest.mark.ffcv
def test_without_ffcv_pillow_decodes_almost_the_same(photos, monkeypatch):
    augmentation = Augmentation(resized_crop=16)
    with TorchLoader(photos, augmentation=augmentation) as loader:
        expected = served(loader, np.arange(12))["image"]
        monkeypatch.setattr(loaders, "decoder_address", lambda: 0)
        slow = served(loader, np.arange(12))["image"]
    assert np.abs(slow.astype(int) - expected).mean() < 1, "the two differ in their cosine transforms only"
    assert (slow[3, 0] == slow[3, 2]).all(), "a grey picture has three equal channels"


# What is refused


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 50], "example id 50 at position 1 is outside 0 … 49"),
        ([4, -1], "example id -1 at position 1"),
        ([], "non-empty"),
        ([0.0, 1.0], "integer ids, given float64"),
        ([True, False], "integer ids, given bool"),
        ([[0, 1]], "given int64"),
        (np.array([2**63], np.uint64), "outside"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", BOTH)
def test_ids_that_are_no_examples_are_refused_before_anything_is_read(kind, order, message, split):
    with kind(split) as loader, pytest.raises(UserError, match=message):
        loader.serve(np.asarray(order), 0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"workers": 0}, ConfigError, "workers must be at least 1"),
        ({"chunk_size": 0}, ConfigError, "chunk_size must be at least 1"),
        ({"batch_size": 0}, ConfigError, "batch_size must be at least 1"),
        ({"seed": -1}, ConfigError, "seed"),
        ({"fields": []}, ConfigError, "at least one field"),
        ({"fields": ["labels"]}, UnknownName, "did you mean 'label'"),
        ({"fields": ["label"], "augmentation": Augmentation(flip=True)}, ConfigError, "pictures in a field 'image'"),
        ({"fields": ["label"], "augmentation": Augmentation(window=3)}, ConfigError, "rows in a field 'tokens'"),
        ({"augmentation": Augmentation(window=17)}, ConfigError, "at least that long"),
        ({"augmentation": Augmentation(translate=8)}, ConfigError, "mirrors more than"),
        ({"augmentation": Augmentation(cutout=9)}, ConfigError, "larger than"),
    ],
    ids=str,
)
def test_impossible_requests_are_refused(options, error, message, split):
    with pytest.raises(error, match=message):
        TorchLoader(split, **options)


def test_encoded_pictures_need_a_size(photos):
    with pytest.raises(ConfigError, match="resized_crop must say"):
        TorchLoader(photos)


@pytest.mark.ffcv
def test_auto_takes_ffcv_where_the_split_has_its_file(split):
    for kind, chosen, expected in (
        ("auto", split, FfcvLoader),
        ("ffcv", split, FfcvLoader),
        ("torch", split, TorchLoader),
        ("auto", replace(split, beton=None), TorchLoader),
    ):
        with make_loader(kind, chosen) as loader:
            assert type(loader) is expected
    with pytest.raises(ConfigError, match="auto, ffcv or torch"):
        make_loader("dali", split)
    with pytest.raises(DataMissing, match="timetrial prepare"):
        make_loader("ffcv", replace(split, beton=None))


@pytest.mark.ffcv
def test_a_damaged_file_is_refused_before_ffcv_opens_it(split, tmp_path):
    content = bytearray(split.beton.read_bytes())
    content[-5] ^= 1
    (tmp_path / "x.beton").write_bytes(content)
    with pytest.raises(DataError, match="allocation table"):
        FfcvLoader(replace(split, beton=tmp_path / "x.beton"))


# What goes wrong while serving


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("kind", BOTH)
def test_an_exception_in_a_worker_reaches_the_caller_with_its_traceback(kind, inline, workers, split, monkeypatch):
    with kind(split, chunk_size=5, workers=workers) as loader:
        loader._inline = inline
        read = loader._read

        def break_at_twenty(ids, epoch, outputs):
            if 20 in ids:
                raise ZeroDivisionError("boom")
            read(ids, epoch, outputs)

        monkeypatch.setattr(loader, "_read", break_at_twenty)
        chunks = loader.serve(np.arange(COUNT), 3)
        started = time.monotonic()
        with pytest.raises(LoaderError, match=r"examples 20 .* epoch 3: ZeroDivisionError: boom") as caught:
            list(chunks)
        assert time.monotonic() - started < 30, "hung"
        assert "break_at_twenty" in "".join(traceback.format_exception(caught.value))
        assert len(served(loader, np.arange(20, dtype=np.int32))["label"]) == 20, "the loader serves on"


@pytest.mark.ffcv
@pytest.mark.parametrize("exception", [ZeroDivisionError, IndexError])
def test_an_exception_inside_a_compiled_ffcv_stage_is_raised(exception, split):
    from timetrial.data_pipelines.ffcv_guards import FfcvPipeline

    def stage(indices, memory, metadata, storage):
        raise exception("boom")

    pipeline = FfcvPipeline(split.beton, split.fields, {"label": stage})
    with pytest.raises(exception, match="boom"):
        pipeline.run(np.arange(3), {"label": np.empty(3, np.int64)})


@pytest.mark.parametrize("kind", BOTH)
def test_a_broken_picture_is_named(kind, tmp_path):
    random = np.random.default_rng(2)
    pictures = [encoded(random, 30, 30) for _ in range(6)]
    pictures[4] = pictures[4][:200].copy()  # the header is whole, the picture is not
    split = written("broken", {"image": jpeg_field(pictures)}, tmp_path)
    with kind(split, augmentation=Augmentation(resized_crop=8)) as loader:
        assert len(served(loader, np.array([0, 1, 2, 3, 5]))["image"]) == 5
        with pytest.raises(LoaderError, match="example 4, field 'image'"):
            served(loader, np.arange(6))


@pytest.mark.parametrize("kind", BOTH)
def test_leaving_early_leaks_no_thread_and_no_memory(kind, split):
    with kind(split, chunk_size=2, workers=2) as loader:
        loader._inline = False
        for _ in loader.serve(np.arange(COUNT), 0):
            break
        threads = threading.active_count()
        for epoch in range(100):
            for _ in loader.serve(np.arange(COUNT), epoch):
                break
        assert threading.active_count() <= threads
        list(loader.serve(np.arange(2), 0))  # whatever was still being read is done now
        buffers = sum(len(free) for free in loader._pool._free.values())
        assert buffers <= len(split.fields) * (2 + 2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("timetrial-loader")]


@pytest.mark.parametrize("kind", BOTH)
def test_batches_that_are_kept_are_never_overwritten(kind, split):
    with kind(split, augmentation=TRAIN, chunk_size=6) as loader:
        loader._inline = False
        kept = []
        for epoch in range(4):
            for chunk in loader.serve(np.arange(COUNT), epoch):
                kept.append((chunk, {name: values.clone() for name, values in chunk.fields.items()}))
    for chunk, copies in kept:
        assert all(torch.equal(chunk.fields[name], copy) for name, copy in copies.items())


def test_a_view_alone_keeps_its_memory(split):
    with TorchLoader(split, ["vector"], chunk_size=COUNT) as loader:
        view = next(loader.serve(np.arange(COUNT), 0)).fields["vector"][7:9, 1]
        expected = view.clone()
        for epoch in range(5):
            list(loader.serve(np.arange(COUNT)[::-1], epoch))
        assert torch.equal(view, expected)


def test_memory_that_is_dropped_is_used_again(split):
    with TorchLoader(split, ["vector"], chunk_size=COUNT) as loader:
        places = {next(loader.serve(np.arange(COUNT), epoch)).fields["vector"].data_ptr() for epoch in range(20)}
    assert len(places) <= 2


@pytest.mark.ffcv
def test_opening_a_file_with_ffcv_leaves_the_types_of_numba_alone(split):
    """FFCV makes numba's one type of uint8 arrays read-only, after which compiling a function for both kinds may never end."""
    with FfcvLoader(split, ["image"]) as loader:
        served(loader, np.arange(COUNT))
    from ffcv.memory_managers.os_cache import OSCacheManager

    shared = numba.types.uint8[::1]
    assert isinstance(OSCacheManager.state_type.fget(None), numba.types.BaseTuple)
    assert shared.mutable and shared.name == "array(uint8, 1d, C)"


@pytest.mark.ffcv
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads Linux' list of mapped files")
def test_a_dropped_ffcv_loader_lets_go_of_its_file_at_once(split):
    def is_mapped() -> bool:
        return str(split.beton) in Path("/proc/self/maps").read_text()

    gc.collect()
    gc.disable()  # FFCV's own loader holds itself in circles, with its file and tables of every example
    try:
        loader = FfcvLoader(split)
        served(loader, np.arange(COUNT))
        assert is_mapped()
        loader.close()
        del loader
        assert not is_mapped()
    finally:
        gc.enable()


def test_a_closed_loader_says_so(split):
    loader = TorchLoader(split, chunk_size=5)
    loader._inline = False
    chunks = loader.serve(np.arange(COUNT), 0)
    next(chunks)
    loader.close()
    loader.close()
    with pytest.raises(LoaderError, match="closed while it was serving"):
        list(chunks)
    with pytest.raises(LoaderError, match="is closed"):
        loader.serve(np.arange(COUNT), 0)


def test_a_forked_process_is_told_to_make_its_own_loader(split, monkeypatch):
    with TorchLoader(split) as loader:
        parent = os.getpid()
        with monkeypatch.context() as child:
            child.setattr(loaders.os, "getpid", lambda: parent + 1)
            with pytest.raises(LoaderError, match="fork"):
                loader.serve(np.arange(3), 0)


# What a process sees of it


SCRIPT = """
import sys, warnings
warnings.simplefilter("error")
from pathlib import Path
from timetrial.data_pipelines.threads import prepare_environment, set_threads
prepare_environment(Path(sys.argv[1]))
import numpy as np, torch
from timetrial.data_pipelines import kernels, resize
from timetrial.data_pipelines.augment import Augmentation
from timetrial.data_pipelines.beton import write_beton
from timetrial.data_pipelines.dataset import Field, FieldKind, Split
from timetrial.data_pipelines.loaders import make_loader
set_threads(2)
fields = {"image": Field(FieldKind.IMAGE, np.zeros((9, 4, 4, 3), np.uint8)), "label": Field(FieldKind.INT, np.arange(9))}
path = Path(sys.argv[1]) / "x.beton"
write_beton(path, fields)
split = Split("train", fields, path, "")
loaders = [make_loader(sys.argv[2], split, augmentation=a) for a in (Augmentation(flip=True), Augmentation(resized_crop=2))]
for loader in loaders:
    list(loader.serve(np.arange(9), 0))
assert torch.get_num_threads() == 2, torch.get_num_threads()
compiled = [f for m in (kernels, resize) for f in vars(m).values() if hasattr(f, "stats")]
print(sum(sum(f.stats.cache_misses.values()) for f in compiled), sum(sum(f.stats.cache_hits.values()) for f in compiled))
"""


@pytest.mark.parametrize("kind", ["torch", pytest.param("ffcv", marks=pytest.mark.ffcv)])
def test_a_warm_process_compiles_nothing_and_a_process_ends_in_silence(kind, tmp_path):
    """Also: FFCV leaves torch's threads alone, no warning, no noise at exit although no loader was closed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "OMP"))}
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path), kind], env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        for _ in range(2)
    ]
    assert [(run.returncode, run.stderr) for run in runs] == [(0, "")] * 2
    (cold_misses, _), (warm_misses, warm_hits) = (map(int, run.stdout.split()) for run in runs)
    assert cold_misses > 0
    assert warm_misses == 0 and warm_hits > 0


def test_the_c_decoder_is_found_without_importing_ffcv():
    pytest.importorskip("ffcv")
    script = f"import sys; from {decoder.__name__} import decoder_address; print(decoder_address() != 0, 'ffcv' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["True", "False"]
