"""Augmentation: a pure function of (seed, epoch, example id), equal to a brute-force oracle, uniform in what it draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from timetrial.data_pipelines import kernels
from timetrial.data_pipelines.augment import Augmentation, augment
from timetrial.data_pipelines.resize import resize_square
from timetrial.suite.errors import ConfigError

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox4x32-10 in Python integers, as in table 2 of Salmon et al. 2011."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c3 ^ k1, p0 & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def words(seed: int, epoch: int, example: int, block: int) -> tuple[int, int, int, int]:
    return philox((example & 0xFFFFFFFF, example >> 32, epoch, block), (seed & 0xFFFFFFFF, seed >> 32))


def draws(seed: int, epoch: int, example: int, height: int, width: int, a: Augmentation) -> tuple[bool, int, int, int, int]:
    """``(mirrored, shift y, shift x, cutout top, cutout left)``."""
    w0, w1, w2, _ = words(seed, epoch, example, 0)
    c0, c1, _, _ = words(seed, epoch, example, 1)
    shifts = [(w * (2 * a.translate + 1) >> 32) - a.translate for w in (w1, w2)]
    return a.flip and w0 * 2 >> 32 == 1, *shifts, c0 * (height - a.cutout + 1) >> 32, c1 * (width - a.cutout + 1) >> 32


def oracle(images: np.ndarray, ids: np.ndarray, epoch: int, seed: int, a: Augmentation) -> np.ndarray:
    """The definition, one image at a time: normalise, pad, crop, mirror, cut out."""
    out = []
    for image, example in zip(images, ids.tolist(), strict=True):
        height, width, _ = image.shape
        values = image if a.mean is None else ((image / 255.0 - np.array(a.mean)) / np.array(a.std)).astype(np.float32)
        if a.train:
            mirrored, shift_y, shift_x, top, left = draws(seed, epoch, example, height, width, a)
            pad = [(a.translate, a.translate)] * 2 + [(0, 0)]
            values = np.pad(values, pad, mode="reflect" if a.padding == "reflect" else "constant")
            values = values[a.translate + shift_y :][:height, a.translate + shift_x :][:, :width]
            values = values[:, ::-1].copy() if mirrored else values.copy()
            if a.cutout:
                values[top : top + a.cutout, left : left + a.cutout] = 0
        out.append(values.transpose(2, 0, 1))
    return np.stack(out)


@st.composite
def cases(draw):
    height, width = draw(st.integers(2, 12)), draw(st.integers(2, 12))
    channels = draw(st.sampled_from([1, 3]))
    normalised = draw(st.booleans())
    augmentation = Augmentation(
        flip=draw(st.booleans()),
        translate=draw(st.integers(0, min(height, width) - 1)),
        padding=draw(st.sampled_from(["reflect", "zero"])),
        cutout=draw(st.integers(0, min(height, width))),
        mean=(0.3, 0.5, 0.6)[:channels] if normalised else None,
        std=(0.2, 0.3, 0.1)[:channels] if normalised else None,
        train=draw(st.booleans()),
    )
    seed, epoch = draw(st.integers(0, 2**63 - 1)), draw(st.integers(0, 2**32 - 1))
    ids = np.array(draw(st.lists(st.integers(0, 2**40), min_size=1, max_size=6)))
    images = np.random.default_rng(seed % 997).integers(0, 256, (len(ids), height, width, channels), dtype=np.uint8)
    return images, ids, epoch, seed, augmentation


@settings(max_examples=150, deadline=None)
@given(cases())
def test_kernel_equals_the_brute_force_definition(case):
    np.testing.assert_array_equal(augment(*case), oracle(*case))


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers that the authors publish with Random123
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_philox_gives_the_published_answers(counter, key, expected):
    assert tuple(int(word) for word in kernels.philox(*map(np.uint64, (*counter, *key)))) == expected
    assert philox(counter, key) == expected


@settings(max_examples=30, deadline=None)
@given(case=cases(), order=st.randoms())
def test_an_image_does_not_depend_on_its_batch(case, order):
    images, ids, epoch, seed, augmentation = case
    whole = augment(images, ids, epoch, seed, augmentation)
    rows = list(range(len(ids))) * 2
    order.shuffle(rows)
    rows = rows[: len(ids)]
    np.testing.assert_array_equal(augment(images[rows], ids[rows], epoch, seed, augmentation), whole[rows])


def test_output_can_be_written_in_place():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    out = np.empty((2, 3, 4, 4), np.uint8)
    assert augment(images, np.arange(2), 0, 0, Augmentation(), out) is out
    np.testing.assert_array_equal(out, images.transpose(0, 3, 1, 2))


def shifts_of(augmentation: Augmentation, seed: int = 3, epoch: int = 1, count: int = 20_000) -> np.ndarray:
    """``(mirrored, shift y, shift x)`` int ``[count, 3]``, read off pictures whose pixels say where they come from."""
    side = 2 * augmentation.translate + 1 + 4
    y, x = np.mgrid[:side, :side]
    picture = np.stack([y, x, np.zeros_like(y)], axis=-1).astype(np.uint8)
    out = augment(np.broadcast_to(picture, (count, side, side, 3)), np.arange(count), epoch, seed, augmentation).astype(int)
    centre = side // 2
    mirrored = (out[:, 1, centre, centre] > out[:, 1, centre, centre + 1]).astype(int)
    return np.stack([mirrored, out[:, 0, centre, centre] - centre, out[:, 1, centre, centre] - centre], axis=1)


def test_flips_and_shifts_are_uniform_and_independent():
    drawn = shifts_of(Augmentation(flip=True, translate=2))
    assert stats.chisquare(np.bincount(drawn[:, 0], minlength=2)).pvalue > 1e-3
    for axis in (1, 2):
        assert stats.chisquare(np.bincount(drawn[:, axis] + 2, minlength=5)).pvalue > 1e-3
    joint = np.zeros((2, 25))
    np.add.at(joint, (drawn[:, 0], (drawn[:, 1] + 2) * 5 + drawn[:, 2] + 2), 1)
    assert stats.chi2_contingency(joint).pvalue > 1e-3


@pytest.mark.parametrize("other", [{"seed": 4}, {"epoch": 2}], ids=str)
def test_another_seed_or_epoch_draws_independently(other):
    first, second = shifts_of(Augmentation(flip=True, translate=1)), shifts_of(Augmentation(flip=True, translate=1), **other)
    joint = np.zeros((9, 9))
    np.add.at(joint, ((first[:, 1] + 1) * 3 + first[:, 2] + 1, (second[:, 1] + 1) * 3 + second[:, 2] + 1), 1)
    assert stats.chi2_contingency(joint).pvalue > 1e-3


def test_cutout_squares_are_uniform_inside_the_picture():
    out = augment(np.full((20_000, 6, 6, 3), 255, np.uint8), np.arange(20_000), 0, 0, Augmentation(cutout=3))
    assert (out == 0).sum(axis=(1, 2, 3)).tolist() == [3 * 9] * len(out)
    tops = (out[:, 0] == 0).any(axis=2).argmax(axis=1)
    lefts = (out[:, 0] == 0).any(axis=1).argmax(axis=1)
    assert stats.chisquare(np.bincount(tops * 4 + lefts, minlength=16)).pvalue > 1e-3


def test_windows_start_anywhere_and_at_the_first_token_when_not_training():
    rows = np.tile(np.arange(20, dtype=np.uint8), (12_000, 1))
    windows = np.empty((12_000, 9), np.int64)
    kernels.gather_windows(rows, np.arange(12_000), 0, 1, True, windows)
    np.testing.assert_array_equal(windows - windows[:, :1], np.tile(np.arange(9), (12_000, 1)))
    assert stats.chisquare(np.bincount(windows[:, 0], minlength=12)).pvalue > 1e-3
    kernels.gather_windows(rows, np.arange(12_000), 0, 1, False, windows)
    assert (windows == np.arange(9)).all()


# Random-resized-crop


def pictures(count: int, height: int, width: int) -> np.ndarray:
    """Smooth pictures with some noise, uint8 ``[count, height, width, 3]``."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    fine = np.stack([np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC)) for one in coarse])
    return np.clip(fine.astype(int) + random.integers(-20, 20, fine.shape), 0, 255).astype(np.uint8)


def resized(picture: np.ndarray, box: tuple[int, int, int, int], side: int, mirrored: bool = False) -> np.ndarray:
    """The kernel alone: crop ``(top, left, rows, columns)`` to ``[3, side, side]``."""
    top, left, rows, columns = box
    out = np.empty((3, side, side), np.uint8)
    start, table = (top * picture.shape[1] + left) * 3, Augmentation().table(3)
    resize_square(picture.reshape(-1), start, picture.shape[1], rows, columns, mirrored, table, out)
    return out


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_resizing_is_that_of_pillow_to_one_grey_level(data):
    picture = pictures(1, 40, 70)[0]
    rows, columns = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 70))
    top, left = data.draw(st.integers(0, 40 - rows)), data.draw(st.integers(0, 70 - columns))
    side = data.draw(st.integers(1, 50))
    expected = np.asarray(Image.fromarray(picture[top : top + rows, left : left + columns]).resize((side, side), Image.Resampling.BILINEAR))
    out = resized(picture, (top, left, rows, columns), side)
    assert np.abs(out.astype(int) - expected.transpose(2, 0, 1)).max() <= 1
    np.testing.assert_array_equal(resized(picture, (top, left, rows, columns), side, mirrored=True), out[:, :, ::-1])


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
@pytest.mark.parametrize(("rows", "side"), [(3, 50), (2000, 3), (97, 32)])
def test_resizing_keeps_a_plain_colour(value, rows, side):
    assert (resized(np.full((rows, rows, 3), value, np.uint8), (0, 0, rows, rows), side) == value).all()


def test_resizing_to_the_same_size_changes_nothing():
    picture = pictures(1, 24, 24)[0]
    np.testing.assert_array_equal(resized(picture, (0, 0, 24, 24), 24), picture.transpose(2, 0, 1))


def boxes(height: int, width: int, count: int) -> np.ndarray:
    """``(top, left, rows, columns)`` of random crops, int ``[count, 4]``."""
    return np.array([kernels._crop_box(height, width, 5, 2, example, True) for example in range(count)])


def test_random_crops_have_the_areas_and_aspects_of_the_paper():
    top, left, rows, columns = boxes(256, 256, 4000).T
    share, aspect = rows * columns / 256**2, columns / rows
    assert 0.079 < share.min() < 0.1 and 0.98 < share.max() <= 1
    assert 0.74 < aspect.min() < 0.76 and 1.31 < aspect.max() < 1.35
    assert abs(np.log(aspect).mean()) < 0.02
    assert (top + rows <= 256).all() and (left + columns <= 256).all() and min(top.min(), left.min()) == 0
    room = 256 - rows
    assert abs((top[room > 20] / room[room > 20]).mean() - 0.5) < 0.02


def test_a_crop_of_a_sliver_is_the_largest_in_the_middle():
    assert boxes(10, 1000, 5).tolist() == [[0, 493, 10, 13]] * 5
    assert boxes(1000, 10, 5).tolist() == [[493, 0, 13, 10]] * 5
    assert boxes(1, 1, 5).tolist() == [[0, 0, 1, 1]] * 5


def test_the_deterministic_crop_is_seven_eighths_of_the_shorter_side():
    picture = pictures(1, 64, 96)
    out = augment(picture, np.arange(1), 0, 0, Augmentation(resized_crop=28, flip=True, train=False))
    np.testing.assert_array_equal(out[0], resized(picture[0], (4, 20, 56, 56), 28))


def test_random_crops_are_normalised_and_cut_out_like_any_picture():
    images = pictures(8, 40, 40)
    plain = Augmentation(resized_crop=16, flip=True)
    whole = Augmentation(resized_crop=16, flip=True, cutout=4, mean=MEAN, std=STD)
    expected = whole.table(3)[np.arange(3)[None, :, None, None], augment(images, np.arange(8), 3, 1, plain)]
    out = augment(images, np.arange(8), 3, 1, whole)
    removed = out != expected
    assert (out[removed] == 0).all()
    assert (removed.sum(axis=(1, 2, 3)) == 3 * 16).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"translate": -1}, "at least 0"),
        ({"cutout": -1}, "at least 0"),
        ({"padding": "wrap"}, "'reflect' or 'zero'"),
        ({"window": 0}, "at least 1"),
        ({"resized_crop": 0}, "at least 1"),
        ({"mean": MEAN}, "belong together"),
        ({"mean": MEAN, "std": (1.0,)}, "3 channels"),
        ({"mean": MEAN, "std": (1.0, 0.0, 1.0)}, "positive"),
        ({"resized_crop": 8, "translate": 1}, "leave translate at 0"),
    ],
    ids=str,
)
def test_impossible_augmentations_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Augmentation(**options)


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (Augmentation(translate=4), "mirrors more than"),
        (Augmentation(translate=5, padding="zero"), "out of sight"),
        (Augmentation(cutout=5), "larger than"),
        (Augmentation(mean=(0.5,), std=(0.5,)), "1 channels, the images have 3"),
    ],
    ids=str,
)
def test_augmentations_that_do_not_fit_the_pictures_are_refused(augmentation, message):
    with pytest.raises(ConfigError, match=message):
        augment(np.zeros((1, 4, 4, 3), np.uint8), np.arange(1), 0, 0, augmentation)
