"""Loaders against their peers: CPU and wall microseconds per image, same transforms, interleaved in one process.

Run ``python tests/benchmarks/loaders.py [--quick]``. Prints a Markdown section. Peers that are not installed are listed as such; they
may sit in another environment that sees this one (webdataset, datasets, and litdata without its dependency on torchvision).

32x32    20,000 raw pictures, batch 256: shuffled, mirrored, translated by up to 4 pixels (zeros from outside), 8x8 cut out,
         normalised to float32 CHW. 256x256: 2,000 JPEGs (quality 90), batch 64: random-resized-crop to 128, mirrored, normalised.
Peers    draw from a numpy generator of their own (we: from seed, epoch and example id), read one example at a time in this process
         unless their line says otherwise, and collate as they do by default. Files are in the page cache for everybody.
Ceiling  one pass over the same bytes: reading the raw pictures in order and writing them as float32, memory reused; for JPEG,
         decoding alone (libturbojpeg, whole pictures).
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from timetrial.data_pipelines.augment import Augmentation
from timetrial.data_pipelines.batcher import Batcher
from timetrial.data_pipelines.beton import ffcv_available, write_beton
from timetrial.data_pipelines.dataset import Field, FieldKind, Split
from timetrial.data_pipelines.loaders import make_loader
from timetrial.data_pipelines.threads import prepare_environment, set_threads

MEAN, STD = np.float32([0.4914, 0.4822, 0.4465]), np.float32([0.2470, 0.2435, 0.2616])
RANDOM = np.random.default_rng(0)


@dataclass
class Data:
    """One benchmark's pictures in every form that a loader asks for."""

    pixels: np.ndarray | None  # uint8 [n, 32, 32, 3]
    encoded: list[bytes]  # PNG or JPEG
    labels: np.ndarray
    split: Split
    folder: Path
    batch: int

    def __len__(self):
        return len(self.labels)


# --- transforms of the peers ------------------------------------------------------------------------------------------------------------


def normalise(picture):
    """uint8 HWC to float32 CHW."""
    return np.ascontiguousarray(((picture * np.float32(1 / 255) - MEAN) / STD).transpose(2, 0, 1))


def augment_array(picture):
    """Mirror, translate, normalise and cut out one 32x32 picture with numpy."""
    if RANDOM.random() < 0.5:
        picture = picture[:, ::-1]
    padded = np.zeros((40, 40, 3), np.uint8)
    padded[4:36, 4:36] = picture
    top, left = RANDOM.integers(0, 9, 2)
    out = normalise(padded[top : top + 32, left : left + 32])
    top, left = RANDOM.integers(0, 25, 2)
    out[:, top : top + 8, left : left + 8] = 0
    return out


def augment_pil(picture):
    """The same with Pillow, as far as Pillow goes."""
    if RANDOM.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    top, left = RANDOM.integers(0, 9, 2).tolist()
    picture = ImageOps.expand(picture, 4).crop((left, top, left + 32, top + 32))
    out = normalise(np.asarray(picture))
    top, left = RANDOM.integers(0, 25, 2)
    out[:, top : top + 8, left : left + 8] = 0
    return out


def augment_batch(pictures):
    """The same for a whole batch with torch, as the speed-run scripts do it."""
    count = len(pictures)
    mean, std = (torch.from_numpy(values)[:, None, None] for values in (MEAN, STD))
    x = (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() * (1 / 255) - mean) / std
    x = torch.where((torch.rand(count) < 0.5)[:, None, None, None], x.flip(-1), x)
    padded = torch.nn.functional.pad(x, (4, 4, 4, 4))
    shifts = torch.randint(0, 9, (count, 2))
    rows = (shifts[:, :1] + torch.arange(32))[:, None, :, None]
    columns = (shifts[:, 1:] + torch.arange(32))[:, None, None, :]
    x = padded[torch.arange(count)[:, None, None, None], torch.arange(3)[:, None, None], rows, columns]
    at = torch.arange(32)
    corner = torch.randint(0, 25, (count, 2))
    inside = (at >= corner[:, :, None]) & (at < corner[:, :, None] + 8)
    return x.masked_fill_((inside[:, 0, :, None] & inside[:, 1, None, :])[:, None], 0)


def crop_box(height, width):
    """``(top, left, rows, columns)`` of a random-resized-crop, as torchvision draws it."""
    for _ in range(10):
        area = height * width * RANDOM.uniform(0.08, 1.0)
        aspect = np.exp(RANDOM.uniform(np.log(3 / 4), np.log(4 / 3)))
        columns, rows = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < columns <= width and 0 < rows <= height:
            return RANDOM.integers(0, height - rows + 1), RANDOM.integers(0, width - columns + 1), rows, columns
    return 0, 0, height, width


def crop_pil(picture):
    top, left, rows, columns = map(int, crop_box(picture.height, picture.width))
    picture = picture.resize((128, 128), Image.Resampling.BILINEAR, box=(left, top, left + columns, top + rows))
    if RANDOM.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return normalise(np.asarray(picture))


def crop_cv2(interpolation):
    import cv2

    cv2.setNumThreads(0)

    def crop(encoded):
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
        top, left, rows, columns = crop_box(*picture.shape[:2])
        picture = cv2.resize(picture[top : top + rows, left : left + columns], (128, 128), interpolation=interpolation)
        return normalise(picture[:, ::-1] if RANDOM.random() < 0.5 else picture)

    return crop


def opened(encoded):
    return Image.open(io.BytesIO(encoded)).convert("RGB")


# --- the contestants: each returns a function that runs one epoch -----------------------------------------------------------------------


class Examples(Dataset):
    """A map-style dataset: ``read(index)`` gives a float32 CHW array."""

    def __init__(self, data, read):
        self.data, self.read = data, read

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.read(index), self.data.labels[index]


def ours(kind, augmentation, workers=1):
    def build(data):
        loader = make_loader(kind, data.split, augmentation=augmentation, workers=workers, batch_size=data.batch)
        batcher = Batcher(loader, lambda epoch: (np.random.default_rng(epoch).permutation(len(data)), None), order_known_ahead=True)

        def epoch():
            for _ in range(len(data) // data.batch):
                batcher.next(data.batch)

        return epoch

    return build


def native_ffcv(data):
    """FFCV with its own operations, its own epochs and no guard."""
    from ffcv.fields.decoders import SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import Convert, Cutout, RandomHorizontalFlip, RandomTranslate, ToTensor, ToTorchImage

    operations = [
        SimpleRGBImageDecoder(),
        RandomHorizontalFlip(),
        RandomTranslate(4),
        Cutout(8),
        ToTensor(),
        ToTorchImage(),
        Convert(torch.float32),
    ]
    loader = Loader(
        str(data.split.beton), data.batch, num_workers=1, order=OrderOption.RANDOM, pipelines={"image": operations}, drop_last=True
    )
    return lambda: consume(loader)


def torch_loader(dataset, data, **options):
    loader = DataLoader(dataset, batch_size=data.batch, drop_last=True, **options)
    return lambda: consume(loader)


def pil_files(transform):
    def build(data):
        paths = []
        for i, content in enumerate(data.encoded):
            paths.append(data.folder / f"{i}.img")
            paths[-1].write_bytes(content)
        return torch_loader(Examples(data, lambda i: transform(Image.open(paths[i]).convert("RGB"))), data, shuffle=True)

    return build


def memory_map(workers=0):
    return lambda data: torch_loader(
        Examples(data, lambda i: augment_array(data.split.fields["image"].values[i])), data, shuffle=True, num_workers=workers
    )


def cv2_files(interpolation):
    def build(data):
        crop = crop_cv2(interpolation)
        return torch_loader(Examples(data, lambda i: crop(data.encoded[i])), data, shuffle=True)

    return build


def whole_batches(data):
    values = data.split.fields["image"].values

    def epoch():
        order = torch.randperm(len(data)).numpy()
        for first in range(0, len(data) - data.batch + 1, data.batch):
            augment_batch(values[order[first : first + data.batch]])

    return epoch


def web_dataset(transform, suffix):
    def build(data):
        import webdataset

        path = data.folder / "pictures.tar"
        with tarfile.open(path, "w") as archive:
            for i, content in enumerate(data.encoded):
                for name, blob in ((f"{i:06d}.{suffix}", content), (f"{i:06d}.cls", str(data.labels[i]).encode())):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(blob)
                    archive.addfile(entry, io.BytesIO(blob))
        stream = webdataset.WebDataset(str(path), shardshuffle=False).shuffle(1000).to_tuple(suffix, "cls")
        stream = stream.map_tuple(lambda blob: transform(opened(blob)), int).batched(data.batch, partial=False)
        return lambda: consume(stream)

    return build


def lit_data(data):
    import litdata
    from litdata.streaming.writer import BinaryWriter

    folder = data.folder / "litdata"
    folder.mkdir()
    writer = BinaryWriter(str(folder), chunk_bytes="16MB")
    for i in range(len(data)):
        writer[i] = {"image": data.pixels[i].tobytes(), "label": int(data.labels[i])}
    writer.done()
    writer.merge(1)

    class Pictures(litdata.StreamingDataset):
        def __getitem__(self, index):
            example = super().__getitem__(index)
            return augment_array(np.frombuffer(example["image"], np.uint8).reshape(32, 32, 3)), example["label"]

    loader = litdata.StreamingDataLoader(Pictures(str(folder), shuffle=True), batch_size=data.batch, num_workers=0, drop_last=True)
    return lambda: consume(loader)


def hugging_face(data):
    import datasets

    datasets.disable_progress_bars()
    columns = {"image": [picture.tobytes() for picture in data.pixels], "label": data.labels}
    table = datasets.Dataset.from_dict(
        columns, features=datasets.Features({"image": datasets.Value("binary"), "label": datasets.Value("int64")})
    )

    class Pictures(Dataset):
        def __len__(self):
            return len(table)

        def __getitems__(self, indices):
            rows = table[indices]
            return [
                (augment_array(np.frombuffer(image, np.uint8).reshape(32, 32, 3)), label)
                for image, label in zip(rows["image"], rows["label"], strict=True)
            ]

    return torch_loader(Pictures(), data, shuffle=True)


def one_pass(data):
    source, out = data.pixels.reshape(len(data), -1), np.empty((data.batch, data.pixels[0].size), np.float32)

    def epoch():
        for first in range(0, len(data) - data.batch + 1, data.batch):
            np.copyto(out, source[first : first + data.batch])

    return epoch


def decode_only(data):
    import ctypes

    from timetrial.data_pipelines.decoder import decoder_address

    kinds = [ctypes.c_void_p, ctypes.c_uint64, *[ctypes.c_uint32] * 2, ctypes.c_void_p, *[ctypes.c_uint32] * 6, *[ctypes.c_bool] * 2]
    decode, out = ctypes.CFUNCTYPE(ctypes.c_int, *kinds)(decoder_address()), np.empty((256, 256, 3), np.uint8)

    def epoch():
        for content in data.encoded:
            decode(content, len(content), 256, 256, out.ctypes.data, 256, 256, 0, 0, 1, 1, False, False)

    return epoch


def consume(batches):
    for _ in batches:
        pass


# --- measuring --------------------------------------------------------------------------------------------------------------------------


def raw_data(folder, count):
    pixels, labels = smooth(count, 32), RANDOM.integers(0, 10, count)
    np.save(folder / "pixels.npy", pixels)
    fields = {"image": Field(FieldKind.IMAGE, np.load(folder / "pixels.npy", mmap_mode="r")), "label": Field(FieldKind.INT, labels)}
    write_beton(folder / "raw.beton", fields)
    return Data(pixels, [saved(one, "PNG") for one in pixels], labels, Split("train", fields, folder / "raw.beton", ""), folder, 256)


def jpeg_data(folder, count):
    encoded, labels = [saved(one, "JPEG", quality=90) for one in smooth(count, 256)], RANDOM.integers(0, 10, count)
    values, offsets = np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([0, *map(len, encoded)])
    fields = {"image": Field(FieldKind.JPEG, values, offsets), "label": Field(FieldKind.INT, labels)}
    write_beton(folder / "jpeg.beton", fields)
    return Data(None, encoded, labels, Split("train", fields, folder / "jpeg.beton", ""), folder, 64)


def saved(pixels, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def smooth(count, side):
    """Pictures with about the spectrum of photographs: octaves of noise, each weaker than the one before."""
    out = np.zeros((count, side, side, 3), np.uint8)
    for i in range(count):
        total = np.full((side, side, 3), 128.0)
        for octave in range(int(np.log2(side)) - 1):
            noise = Image.fromarray(RANDOM.integers(0, 256, (4 << octave, 4 << octave, 3), dtype=np.uint8))
            total += (np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC), float) - 128) / 2 ** max(octave - 1, 0) * 0.8
        out[i] = np.clip(total, 0, 255)
    return out


RAW = Augmentation(flip=True, translate=4, padding="zero", cutout=8, mean=tuple(MEAN.tolist()), std=tuple(STD.tolist()))
CROP = Augmentation(flip=True, resized_crop=128, mean=RAW.mean, std=RAW.std)
OURS, PEER, CEILING = "ours", "peer", "ceiling"

RAW_CONTESTANTS = {
    "timetrial, FFCV": (OURS, ours("ffcv", RAW)),
    "timetrial, FFCV, 2 workers": (OURS, ours("ffcv", RAW, workers=2)),
    "timetrial, torch": (OURS, ours("torch", RAW)),
    "FFCV, its own operations": (PEER, native_ffcv),
    "memory map, whole batches in torch": (PEER, whole_batches),
    "DataLoader, memory map": (PEER, memory_map()),
    "DataLoader, memory map, 2 workers": (PEER, memory_map(workers=2)),
    "DataLoader, PIL on PNG files": (PEER, pil_files(augment_pil)),
    "webdataset, PNG": (PEER, web_dataset(augment_pil, "png")),
    "litdata": (PEER, lit_data),
    "HF datasets": (PEER, hugging_face),
    "one pass over the bytes": (CEILING, one_pass),
}
JPEG_CONTESTANTS = {
    "timetrial, FFCV": (OURS, ours("ffcv", CROP)),
    "timetrial, FFCV, 2 workers": (OURS, ours("ffcv", CROP, workers=2)),
    "timetrial, torch": (OURS, ours("torch", CROP)),
    "DataLoader, cv2, antialiased (INTER_AREA)": (PEER, cv2_files(3)),
    "DataLoader, cv2, not antialiased (INTER_LINEAR)": (PEER, cv2_files(1)),
    "DataLoader, PIL": (PEER, pil_files(crop_pil)),
    "webdataset": (PEER, web_dataset(crop_pil, "jpg")),
    "decoding alone": (CEILING, decode_only),
}


def cpu_seconds():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measure(contestants, data, repeats, slot_seconds):
    """``(cpu, wall)`` microseconds per image, by contestant, interleaved, each slot as many epochs as last ``slot_seconds``.

    Second: why the others could not be measured.
    """
    epochs, missing = {}, {}
    for name, (_, build) in contestants.items():
        folder = data.folder / str(len(epochs) + len(missing))
        folder.mkdir()
        try:
            epoch = build(Data(data.pixels, data.encoded, data.labels, data.split, folder, data.batch))
            epoch()  # warm: caches filled, code compiled
            wall = time.perf_counter()
            epoch()
            epochs[name] = epoch, max(1, round(slot_seconds / (time.perf_counter() - wall)))
        except ImportError as problem:
            missing[name] = f"not installed ({problem})"
        except Exception as problem:  # noqa: BLE001  a peer that breaks is reported as broken
            missing[name] = f"failed: {type(problem).__name__}: {problem}"
    images = len(data) // data.batch * data.batch
    results = {name: [] for name in epochs}
    for repeat in range(repeats):
        for name in list(epochs) if repeat % 2 == 0 else list(reversed(epochs)):
            epoch, count = epochs[name]
            wall, cpu = time.perf_counter(), cpu_seconds()
            for _ in range(count):
                epoch()
            spent = cpu_seconds() - cpu, time.perf_counter() - wall
            results[name].append(tuple(seconds / images / count * 1e6 for seconds in spent))
    return results, missing


def report(title, contestants, results, missing):
    """One Markdown table: medians with their spread, and ratios of CPU time taken repeat by repeat."""
    median = statistics.median
    cpu = {name: [one[0] for one in repeats] for name, repeats in results.items()}
    wall = {name: [one[1] for one in repeats] for name, repeats in results.items()}
    roles = {name: role for name, (role, _) in contestants.items()}
    best = min((name for name in cpu if roles[name] == PEER), key=lambda name: median(cpu[name]))
    ceiling = next(name for name in cpu if roles[name] == CEILING)

    def ratio(name, other):
        values = sorted(a / b for a, b in zip(cpu[name], cpu[other], strict=True))
        return f"{median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"

    print(f"### {title}\n")
    print(f"| loader | CPU µs/image (spread) | wall µs/image (spread) | CPU of best peer ({best}) over it | CPU over the ceiling |")
    print("|---|---|---|---|---|")
    for name in contestants:
        if name in missing:
            print(f"| {name} | {missing[name]} | | | |")
            continue
        cells = [f"{median(times):.1f} ({min(times):.1f} to {max(times):.1f})" for times in (cpu[name], wall[name])]
        print(f"| {name} | {cells[0]} | {cells[1]} | {ratio(best, name)} | {ratio(name, ceiling)} |")
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few pictures and repeats, to see that it runs")
    arguments = parser.parse_args()
    if not ffcv_available():
        sys.exit("this benchmark needs FFCV")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_environment(folder)
        set_threads(1)
        count, repeats, slot_seconds = (2000, 3, 0.05) if arguments.quick else (20_000, 9, 0.3)
        print("## Loaders\n\nOne torch thread; process CPU time with children; median of interleaved epochs.\n")
        for title, make, contestants, size in (
            ("32x32 raw: flip, translate 4, cutout 8, float CHW", raw_data, RAW_CONTESTANTS, count),
            ("256x256 JPEG: random-resized-crop 128, flip, float CHW", jpeg_data, JPEG_CONTESTANTS, count // 10),
        ):
            place = folder / str(size)
            place.mkdir()
            report(title, contestants, *measure(contestants, make(place, size), repeats, slot_seconds))


if __name__ == "__main__":
    main()
