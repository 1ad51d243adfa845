"""Curation against its peers: near-duplicates, a million vectors out of core, facility location, pruning against training.

Run ``python tests/benchmarks/curation.py [--quick] [--only SECTION ...]``. Prints a Markdown section, every part with the seconds it took;
``--quick`` is a tenth of the size. On two cores the parts take about three minutes, four minutes, a minute and eight minutes.

Vectors    384 numbers, unit length, in 2,000 clusters with a cosine of about 0.6 inside; 5 % of them copies of others at a cosine uniform
           in 0.95 to 0.99. Threshold 0.95.
Exact      ``faiss.range_search`` of a flat inner-product index, for a tenth of the rows as queries, its seconds times ten. The pairs of
           these rows are the truth that recall is measured against.
Training   ``cifar10_cnn`` with its frozen reference (``nesterov`` before there is one), three seeds: what pruning saves and costs. Data are
           prepared below ``$TIMETRIAL_HOME`` from ``$TIMETRIAL_MIRROR``, and the records (study ``benchmark``) are left there.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from timetrial.data_pipelines.threads import prepare_environment
from timetrial.suite.files import home_folder

WIDTH, CLUSTERS, THRESHOLD, EDGE = 384, 2000, 0.95, 0.96
EMBEDDERS = ("pca", "patches")


def vectors(count, seed=0):
    random = np.random.default_rng(seed)
    centres = unit(np.random.default_rng(99).standard_normal((CLUSTERS, WIDTH), dtype=np.float32))
    rows = unit(random.standard_normal((count, WIDTH), dtype=np.float32)) * np.float32(math.sqrt(0.4))
    rows += centres[random.integers(CLUSTERS, size=count)] * np.float32(math.sqrt(0.6))
    rows = unit(rows)
    copies = count // 20
    own = rows[:copies]
    aside = random.standard_normal((copies, WIDTH), dtype=np.float32)
    aside = unit(aside - own * np.einsum("nd,nd->n", aside, own)[:, None])
    cosine = random.uniform(0.95, 0.99, (copies, 1)).astype(np.float32)
    rows[count - copies :] = cosine * own + np.sqrt(1 - cosine**2) * aside
    return rows[random.permutation(count)]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def seconds(call):
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def near_duplicates(count):
    import faiss

    from timetrial.data_pipelines.near_pairs import near_pairs
    from timetrial.data_pipelines.shards import Rows

    rows = vectors(count)
    near_pairs(Rows([rows[:2000]]), THRESHOLD)  # imports
    own, found = seconds(lambda: near_pairs(Rows([rows]), THRESHOLD))
    index = faiss.IndexFlatIP(WIDTH)
    index.add(rows)
    exact, (limits, cosine, near) = seconds(lambda: index.range_search(rows[: count // 10], THRESHOLD))
    query = np.repeat(np.arange(count // 10), np.diff(limits.astype(np.int64)))
    proper = query != near
    query, near, cosine = query[proper], near[proper], cosine[proper]
    keys = np.minimum(query, near) * count + np.maximum(query, near)
    hit = np.isin(keys, found.pairs.first * count + found.pairs.second)
    edge = cosine < EDGE
    head = "| rows | ours | exact (faiss) | ratio | pairs | recall | recall 0.95 to 0.96 | compared |"
    lines = ["### Near-duplicates", "", head, "|---|---|---|---|---|---|---|---|"]
    recall = f"{hit.mean():.4f} ({len(hit):,} pairs)"
    at_edge = f"{hit[edge].mean():.4f} ({int(edge.sum()):,})"
    share = f"{found.report['share_compared']:.2%}"
    exact *= 10
    times = f"{own:.1f} s | {exact:.1f} s | {exact / own:.1f}x"
    lines.append(f"| {count:,} | {times} | {len(found.pairs):,} | {recall} | {at_edge} | {share} |")
    try:
        from vicinity import Backend, Vicinity  # the index under semhash
    except ImportError:
        return [*lines, "", "semhash's index (vicinity, usearch): not installed, not measured."]

    def peer():
        return Vicinity.from_vectors_and_items(rows, list(range(count)), Backend.USEARCH).query_threshold(rows, 1 - THRESHOLD)

    taken, _ = seconds(peer)
    return [*lines, "", f"semhash's index (vicinity, usearch) on the same vectors: {taken:.1f} s, {taken / own:.1f}x of ours."]


def out_of_core_worker(folder):
    """One search over shards in a process of its own, so that its peak memory is its own."""
    from timetrial.data_pipelines.near_pairs import near_pairs
    from timetrial.data_pipelines.shards import Rows

    shards = [np.load(path, mmap_mode="r") for path in sorted(Path(folder).glob("*.npy"))]
    taken, found = seconds(lambda: near_pairs(Rows(shards), THRESHOLD, scratch=Path(folder) / "scratch"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{taken} {peak} {found.report['recall']} {found.report['recall_at_edge']}")


def out_of_core(largest):
    sizes, times = (largest // 10, largest), []
    head = "| rows | shards | seconds | peak memory | recall (own check) | at the edge |"
    lines = ["### Out of core", "", head, "|---|---|---|---|---|---|"]
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for shard in range(10):
                np.save(Path(folder) / f"{shard:02d}.npy", vectors(size // 10, seed=shard))
            command = [sys.executable, __file__, "--worker", folder]
            taken, peak, recall, edge = map(float, subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split())
        times.append(taken)
        lines.append(f"| {size:,} | 10 | {taken:.1f} | {peak:.2f} GiB | {recall:.4f} | {edge:.4f} |")
    return [*lines, "", f"Exponent of cost from {sizes[0]:,} to {sizes[1]:,} rows: {math.log10(times[1] / times[0]):.2f}."]


def facility_location(count, budget):
    from timetrial.data_pipelines.curation.submodular import cosine_similarities
    from timetrial.data_pipelines.curation.submodular import facility_location as lazy

    similarity = cosine_similarities(vectors(count)[:, :64])

    def naive():
        covered, chosen = np.zeros(count), []
        for _ in range(budget):
            gain = np.array([np.maximum(row - covered, 0.0).sum() for row in similarity])
            gain[chosen] = -1.0
            chosen.append(int(gain.argmax()))
            covered = np.maximum(covered, similarity[chosen[-1]])
        return np.array(chosen)

    fast, one = seconds(lambda: lazy(similarity, budget))
    slow, other = seconds(naive)
    value, plain = (float(similarity[:, chosen].max(axis=1).sum(dtype=np.float64)) for chosen in (one, other))
    said = "the same set" if set(one.tolist()) == set(other.tolist()) else "other sets"
    told = f"{budget} of {count:,}: lazy greedy {fast:.2f} s, naive {slow:.2f} s, {slow / fast:.1f}x; {said}, "
    told += f"values {value:.4f} and {plain:.4f}. `submodlib`: not measured."
    return ["### Facility location", "", f"{told} {apricot_on(similarity, budget, fast, one)}"]


def apricot_on(similarity, budget, fast, chosen):
    """The same selection by apricot (Schreiber et al. 2020), compiled code warmed up."""
    try:
        from apricot import FacilityLocationSelection
    except ImportError:
        return "`apricot`: not installed, not measured."

    def peer():
        return FacilityLocationSelection(budget, metric="precomputed", optimizer="lazy", verbose=False).fit(wide).ranking

    wide = np.asarray(similarity, np.float64)
    peer()
    taken, other = seconds(peer)
    said = "the same set" if set(map(int, other)) == set(chosen.tolist()) else "another set"
    return f"`apricot` (lazy): {taken:.2f} s, {taken / fast:.1f}x of ours, {said}."


def pruning_against_training(scale):
    if not os.environ.get("TIMETRIAL_MIRROR"):
        return ["### Pruning against training", "", "Not measured: no data (`TIMETRIAL_MIRROR`)."]
    import timetrial
    from timetrial.suite.registry import definition

    algorithm = "reference" if definition("workload", "cifar10_cnn").get("reference") else "nesterov"
    arms = {"all of the data": {}, "random": {"curation": "random", "keep_fraction": 0.5}}
    for embedder in EMBEDDERS:
        arms[f"prototypes, {embedder}"] = {"curation": "prototypes", "keep_fraction": 0.5, "embedder": embedder}
    changed = {"workload.budget.charged_seconds": 600.0} | ({} if scale == 1 else {"workload.budget.examples": 112_500 // scale})
    found = {name: [] for name in arms}
    for seed in range(3 if scale == 1 else 1):  # arms interleaved, so that a drift of the machine hits all alike
        for name, options in arms.items():
            found[name].append(timetrial.run("cifar10_cnn", algorithm=algorithm, seed=seed, study="benchmark", **options, **changed))
    full = median(record.time.wall_seconds["train"] for record in found["all of the data"])
    head = "| arm, keep fraction 0.5 | curation | training | curation / full training | accuracy | above random |"
    lines = [
        "### Pruning against training",
        "",
        f"`{algorithm}`, medians of {len(found['random'])} seeds.",
        "",
        head,
        "|---|---|---|---|---|---|",
    ]
    within = {}
    for name, records in found.items():
        spent, trained = (median(r.time.wall_seconds.get(bucket, 0.0) for r in records) for bucket in ("curate", "train"))
        accuracy = median(r.result.final_quality for r in records)
        wins = sum(a.result.final_quality > b.result.final_quality for a, b in zip(records, found["random"], strict=True))
        above = f"{wins}/{len(records)}" if name.startswith("prototypes") else ""
        lines.append(f"| {name} | {spent:.2f} s | {trained:.1f} s | {spent / full:.1%} | {accuracy:.4f} | {above} |")
        within[name.partition(", ")[2]] = spent <= full / 10
    said = [f"{name} {'takes' if within[name] else 'does not take'} at most a tenth of the full training's seconds" for name in EMBEDDERS]
    return [
        *lines,
        "",
        "; ".join(said) + "." if scale == 1 else "The training was shortened and the choosing was not: the ratio says nothing.",
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--only", nargs="+", choices=("near", "shards", "facility", "training"), help="these parts alone")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    prepare_environment(home_folder())  # before torch, faiss and numba are imported
    if arguments.worker:
        return out_of_core_worker(arguments.worker)
    scale = 10 if arguments.quick else 1
    parts = {
        "near": lambda: near_duplicates(200_000 // scale),
        "shards": lambda: out_of_core(1_000_000 // scale),
        "facility": lambda: facility_location(5000 // scale, 50),
        "training": lambda: pruning_against_training(scale),
    }
    print("## Curation")
    for name in arguments.only or parts:
        taken, lines = seconds(parts[name])
        print("\n" + "\n".join(lines) + f"\n\n*This part took {taken:.0f} s.*", flush=True)


if __name__ == "__main__":
    main()
