"""The mirror of records in MLflow, and records from it: the folders are the truth, a run says the same in MLflow's words.

Everything here happens after a trial, in one go; no thread of MLflow's or ours outlives a call, so none runs while a clock does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from .curve import Curve
from .errors import RecordError, TrackingError
from .record import Record
from .tracking_run import CURVE, RunContent, Sample, experiment_name, history_key, rebuild, run_content
from .tracking_store import artifact_folder, default_uri, initialise, locked, open_store, sql_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

__all__ = ["default_uri", "initialise", "mirror", "read_notes", "read_records", "write_notes"]

_NOTE = "board."  # how the tags begin that say what a record is held for since
_MARK = "timetrial.experiment"  # tag of the experiments that hold mirrored records
_EXPERIMENT_TAGS = {_MARK: "records", "mlflow.experimentKind": "custom_model_development"}  # opens on runs, not on prompts
_PAGE = 500  # runs in memory at once
_REQUESTS = 8  # to a server at once


def mirror(records: Iterable[tuple[Record, Curve, Path]], uri: str, *, home: Path | None = None) -> int:
    """Send records to an MLflow store, each with its curve and folder; returns how many were not there before.

    A record is known by its id, so sending it twice changes nothing, and a run that a crash left half written is completed.
    Several processes may send at once. ``home`` holds the artefacts of a database that is neither SQLite nor behind a server.
    Raises ``TrackingError`` when the store cannot be reached; a record that it refuses is named by a ``TrackingError`` after the
    others were sent.
    """
    given, sent, refused = 0, 0, []
    with open_store(uri) as client:
        from mlflow.exceptions import MlflowException

        place = artifact_folder(uri, home)
        experiments: dict[str, str] = {}
        for record, curve, folder in records:
            given += 1
            name = experiment_name(record)
            if name not in experiments:
                experiments[name] = _experiment(client, name, place)
            try:
                with locked(folder if place is None else place):
                    sent += _send(client, experiments[name], record, curve, folder)
            except RecordError as problem:
                refused.append(str(problem))
            except MlflowException as problem:
                if problem.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                refused.append(f"{record.record_id}: {problem.message}")
    if refused:
        raise TrackingError(f"{len(refused)} of {given} records refused: {'; '.join(refused)}")
    return sent


def read_records(
    uri: str, *, study: str | None = None, on_rejected: Callable[[str, str], None] | None = None
) -> list[tuple[Record, Curve]]:
    """The mirrored records with their curves, oldest first, from runs and metric histories alone: no artefact is opened.

    ``study`` keeps the trials of one study. A run that cannot be rebuilt goes to ``on_rejected(record_id, reason)``; without it,
    the first one raises ``RecordError``. Raises ``TrackingError`` when the store cannot be reached.
    """
    found: dict[str, tuple[Record, Curve]] = {}
    with open_store(uri) as client:
        for runs in _pages(client, study):
            histories = _histories(client, uri, [run.info.run_id for run in runs])
            for run in runs:
                record_id, where = run.data.tags["record_id"], f"MLflow run {run.info.run_id}"
                try:
                    found.setdefault(record_id, rebuild(run.data.tags, run.data.metrics, histories[run.info.run_id], where))
                except RecordError as problem:
                    if on_rejected is None:
                        raise
                    on_rejected(record_id, str(problem))
    return sorted(found.values(), key=lambda pair: (pair[0].started_at or "", pair[0].record_id))


def write_notes(notes: Mapping[str, Mapping[str, str]], uri: str) -> int:
    """Make the tags ``board.…`` of the runs of some records, by id, those given; returns how many runs changed. Others stay as they are.

    Raises ``TrackingError`` when the store cannot be reached.
    """
    changed = 0
    with open_store(uri) as client:
        for run in (run for runs in _pages(client, None) for run in runs):
            wanted = notes.get(run.data.tags["record_id"])
            there = _notes(run)
            if wanted is None or there == dict(wanted):
                continue
            changed += 1
            for key in there.keys() - wanted.keys():
                client.delete_tag(run.info.run_id, key)
            for key, value in wanted.items():
                client.set_tag(run.info.run_id, key, value)
    return changed


def read_notes(uri: str) -> dict[str, dict[str, str]]:
    """The tags ``board.…`` of all mirrored runs, by record id. Raises ``TrackingError`` when the store cannot be reached."""
    with open_store(uri) as client:
        return {run.data.tags["record_id"]: _notes(run) for runs in _pages(client, None) for run in runs}


def _notes(run: Run) -> dict[str, str]:
    return {key: value for key, value in run.data.tags.items() if key.startswith(_NOTE)}


def _send(client: MlflowClient, experiment_id: str, record: Record, curve: Curve, folder: Path) -> bool:
    """Write one run unless it is there; its status is written last, so a run that still says RUNNING is not whole."""
    content = run_content(record, curve)
    there = client.search_runs([experiment_id], f"tags.record_id = '{record.record_id}'", max_results=1)
    if there and there[0].info.status != "RUNNING":
        return False
    tags = {"record_id": record.record_id}
    run = there[0] if there else client.create_run(experiment_id, content.start_ms, tags, content.name)
    run_id = run.info.run_id
    _log(client, run_id, content)
    client.log_inputs(run_id, _datasets(record))
    client.log_artifacts(run_id, str(folder))
    client.set_terminated(run_id, content.status, content.end_ms)
    return True


def _log(client: MlflowClient, run_id: str, content: RunContent) -> None:
    from mlflow.entities import Metric, Param, RunTag

    client.log_batch(
        run_id,
        [Metric(sample.key, sample.value, sample.timestamp_ms, sample.step) for sample in content.metrics],
        [Param(key, value) for key, value in content.params.items()],
        [RunTag(key, value) for key, value in content.tags.items()],
    )


def _experiment(client: MlflowClient, name: str, place: Path | None) -> str:
    """Id of the experiment, made if need be, also when another process makes it at the same moment."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, None if place is None else (place / name).as_uri(), _EXPERIMENT_TAGS)
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return found.experiment_id


def _pages(client: MlflowClient, study: str | None) -> Iterator[list[Run]]:
    """The whole runs of all mirrored records, or of one study, in a fixed order."""
    experiments = [found.experiment_id for found in client.search_experiments(filter_string=f"tags.`{_MARK}` = 'records'")]
    wanted = "" if study is None else f"tags.study = '{study}'"
    token: str | None = ""
    while experiments and token is not None:
        page = client.search_runs(experiments, wanted, max_results=_PAGE, order_by=["attributes.run_id"], page_token=token or None)
        yield [run for run in page if run.info.status != "RUNNING" and "record_id" in run.data.tags]
        token = page.token or None


def _histories(client: MlflowClient, uri: str, run_ids: Sequence[str]) -> dict[str, list[Sample]]:
    """The samples of the curve's columns by run: one query a column from a database, one request a run and column from a server."""
    keys = [history_key(column) for column in CURVE]
    found: dict[str, list[Sample]] = defaultdict(list)
    store = sql_store(uri)
    if store is not None:
        for key in keys:
            for sample in store.get_metric_history_bulk(run_ids, key, None):  # type: ignore[no-untyped-call]
                found[sample.run_id].append(Sample(key, sample.value, sample.timestamp, sample.step))
        return found
    wanted = [(run_id, key) for run_id in run_ids for key in keys]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        for (run_id, key), history in zip(wanted, pool.map(lambda pair: client.get_metric_history(*pair), wanted), strict=True):
            found[run_id] += [Sample(key, metric.value, metric.timestamp, metric.step) for metric in history]
    return found


def _datasets(record: Record) -> list[DatasetInput]:
    """The data by our own digests: MLflow keeps 36 letters of one, the whole one is a tag of the input."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    selected = record.selected
    tags = {"mlflow.data.context": "training"}
    if selected is not None:
        tags |= {"keep_fraction": f"{selected.keep_fraction:g}", "kept_examples": str(selected.kept_examples)}
        tags |= {} if selected.digest is None else {"selection_digest": selected.digest}
    return [
        DatasetInput(
            Dataset(f"{record.workload.name}.{role}", digest[:36], "timetrial", record.workload.identity),
            [InputTag(key, value) for key, value in (tags | {"digest": digest}).items()],
        )
        for role, digest in record.data_digests.items()
    ]
