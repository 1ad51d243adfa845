"""A training without data files, clock or trial loop: what the contract suite runs algorithms on, and what tests may.

Three small synthetic problems with labels that can be learned: ``dense`` (vectors, MLP), ``pictures`` (16 x 16, convolutions, batch norm, a
frozen layer) and ``tokens`` (embedding, layer norm). Batches are served as strictly as their contract allows: what an earlier batch
held is overwritten when the next one is asked for.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .algorithm import Batch, Need, Problem, StepReport, TrainingAlgorithm, parameter_kinds
from .checkpoint import RunningTrial
from .config import AlgorithmDefinition, instantiate

__all__ = ["SCENES", "Rehearsal", "Scene", "fitting_scenes"]

EXAMPLES, CLASSES = 512, 4


@final
class _Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(12, 24), nn.Linear(24, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:  # [B, 12] -> [B, CLASSES]
        return self.head(self.second(self.first(x).relu()).relu())


@final
class _Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.norm, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, CLASSES)
        self.stem.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:  # [B, 3, S, S] -> [B, CLASSES]
        return self.head(self.norm(self.conv(self.stem(x).relu())).relu().mean(dim=(2, 3)))


@final
class _Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm, self.mix, self.head = nn.Embedding(20, 12), nn.LayerNorm(12), nn.Linear(12, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:  # int64 [B, 6] -> [B, CLASSES]
        return self.head(self.mix(self.norm(self.embedding(x))).tanh().mean(dim=1))


def _vectors(generator: torch.Generator) -> Tensor:
    return torch.randn(EXAMPLES, 12, generator=generator)


def _images(generator: torch.Generator) -> Tensor:
    return torch.randn(EXAMPLES, 3, 4, 4, generator=generator).repeat_interleave(4, 2).repeat_interleave(4, 3)


def _words(generator: torch.Generator) -> Tensor:
    return torch.randint(0, 20, (EXAMPLES, 6), generator=generator)


@dataclass(frozen=True)
class Scene:
    """One synthetic problem: ``field`` names the input, ``provides`` says whose needs it meets."""

    field: str
    build: Callable[[], nn.Module]
    inputs: Callable[[torch.Generator], Tensor]
    provides: frozenset[Need]


_CLASSIFIER = frozenset({Need.LABELS, Need.CLASSIFIER_HEAD})
SCENES: Mapping[str, Scene] = MappingProxyType(
    {
        "dense": Scene("vector", _Dense, _vectors, _CLASSIFIER | {Need.CONTINUOUS_INPUT}),
        "pictures": Scene("image", _Pictures, _images, _CLASSIFIER | {Need.CONTINUOUS_INPUT, Need.IMAGE_INPUT}),
        "tokens": Scene("tokens", _Tokens, _words, _CLASSIFIER | {Need.TOKEN_INPUT}),
    }
)


def fitting_scenes(needs: frozenset[str]) -> list[str]:
    """Names of the scenes that meet all needs."""
    return [name for name, scene in SCENES.items() if needs <= scene.provides]


@final
class _Nested(nn.Module):
    """The same model one level deeper, so that every parameter has another name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


@final
class Rehearsal:
    """One training of one algorithm on one scene; equal arguments give equal trainings.

    ``reordered`` lists the same parameters in reverse order, ``renamed`` gives all of them other names; ``steps_in_budget`` is the horizon
    that the algorithm sees, at a suggested batch of ``batch_size``.
    """

    def __init__(
        self,
        definition: AlgorithmDefinition,
        scene: str = "dense",
        *,
        seed: int = 0,
        batch_size: int = 32,
        steps_in_budget: int = 40,
        reordered: bool = False,
        renamed: bool = False,
        algorithm: TrainingAlgorithm | None = None,
    ) -> None:
        self.scene = SCENES[scene]
        self.batch_size = self.next_batch_size = batch_size
        self.horizon, self.served, self.losses = steps_in_budget * batch_size, 0, list[float]()
        self._data(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.scene.build()
        kinds = parameter_kinds(model)
        if reordered:
            model._modules = dict(reversed(model._modules.items()))
        if renamed:
            model, kinds = _Nested(model), {f"model.{name}": kind for name, kind in kinds.items()}
        self.model = model
        self.algorithm = algorithm or instantiate(definition.target, definition.options, TrainingAlgorithm)
        self.problem = Problem(
            losses=lambda batch: cross_entropy(self.model(batch[self.scene.field]), batch["label"], reduction="none"),
            backward=lambda loss: loss.backward(),
            next_batch=self.next_batch,
            dummy_batch=self._batch(torch.arange(batch_size), shifted=True),
            progress=lambda: self.served / self.horizon,
            kinds=kinds,
            hyperparameters=dict(definition.hyperparameters),
            generator=torch.Generator().manual_seed(seed),
            batch_size=batch_size,
            step_count=steps_in_budget,
        )
        self._lent: Batch | None = None
        self.state: Any = None

    def setup(self) -> Rehearsal:
        """Let the algorithm make its state."""
        self.state = self.algorithm.setup(self.model, self.problem)
        return self

    def step(self) -> StepReport:
        """One step, its loss appended to ``losses``."""
        report = self.algorithm.step(self.state, self.next_batch())
        self.take(report)
        return report

    def take(self, report: StepReport) -> None:
        """Note what a step reports, as a trial does."""
        self.losses.append(float(report.loss))
        if report.next_batch_size is not None:
            self.next_batch_size = min(max(1, report.next_batch_size), EXAMPLES)

    def run(self, steps: int) -> Rehearsal:
        """That many steps."""
        for _ in range(steps):
            self.step()
        return self

    def next_batch(self) -> Batch:
        """The next examples in order; the batch served before is overwritten."""
        self.reclaim()
        rows = (torch.arange(self.next_batch_size) + self.served) % EXAMPLES
        self.served += self.next_batch_size
        self._lent, self._rows = self._batch(rows), rows
        return self._lent

    def intact(self) -> bool:
        """Whether the lent batch still holds what it held when it was lent."""
        if self._lent is None:
            return True
        given, now = self._batch(self._rows), self._lent
        same = all(torch.equal(value, now.fields.get(name, torch.empty(0))) for name, value in given.fields.items())
        return same and torch.equal(given.ids, now.ids) and now.weights is None

    def reclaim(self) -> None:
        """Overwrite the batch that is lent: its time is over."""
        if self._lent is not None:
            with torch.no_grad():
                for value in (*self._lent.fields.values(), self._lent.ids):
                    value.fill_(float("nan") if value.is_floating_point() else 0)
        self._lent = None

    @property
    def lent(self) -> Batch | None:
        """The batch that the algorithm has now."""
        return self._lent

    def batches(self, size: int) -> Iterator[Batch]:
        """All examples in batches, for measuring."""
        for rows in torch.arange(EXAMPLES).split(size):
            yield self._batch(rows)

    def weights(self) -> dict[str, Tensor]:
        """Copies of all parameters and buffers, by the names of the plain scene."""
        prefix = "model." if isinstance(self.model, _Nested) else ""
        return {name.removeprefix(prefix): value.detach().clone() for name, value in self.model.state_dict().items()}

    def checkpoint(self, folder: Path | None = None) -> dict[str, Any]:
        """What a resume needs, through the very file that a trial writes and reads. ``RecordError`` when that cannot be read back."""
        payload = {
            "model": self.model.state_dict(),
            "algorithm": self.algorithm.state_dict(self.state),
            "generator": self.problem.generator.get_state(),
            "progress": {"served": self.served, "next_batch_size": self.next_batch_size, "losses": self.losses},
        }
        with tempfile.TemporaryDirectory() as place:
            running = RunningTrial(folder or Path(place), "rehearsal")
            try:
                running.save(payload)
                found = running.load()
            finally:
                running.close(remove=True)
        assert found is not None
        return found

    def restore(self, payload: Mapping[str, Any]) -> Rehearsal:
        """Put back what :meth:`checkpoint` gave, into a rehearsal that was just set up."""
        payload = copy.deepcopy(dict(payload))
        self.model.load_state_dict(payload["model"])
        self.algorithm.load_state_dict(self.state, payload["algorithm"])
        self.problem.generator.set_state(payload["generator"])
        for name, value in payload["progress"].items():
            setattr(self, name, value)
        return self

    def _data(self, seed: int) -> None:
        """Inputs, and labels from a random linear teacher that looks at the mean-free inputs."""
        generator = torch.Generator().manual_seed(seed)
        self._inputs = self.scene.inputs(generator)
        features = nn.functional.one_hot(self._inputs).float().mean(dim=1) if self.scene.field == "tokens" else self._inputs
        features = features.mean(dim=(2, 3)) if features.ndim == 4 else features
        teacher = torch.randn(features.shape[1], CLASSES, generator=generator)
        self._labels = ((features - features.mean(dim=0)) @ teacher).argmax(dim=1)

    def _batch(self, rows: Tensor, *, shifted: bool = False) -> Batch:
        """Copies of some examples; ``shifted``: each with the label of the next one."""
        labels = self._labels[rows.roll(1) if shifted else rows]
        return Batch(rows.clone(), {self.scene.field: self._inputs[rows].clone(), "label": labels.clone()})
