"""Estimate the stages of a training on a machine: the reference's scores of its pairs, and the training itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from smaug_eval.planning.changes import changes_that_fit
from smaug_eval.planning.figures import PairFigures
from smaug_eval.planning.memory import MemorySetting, sharing_of, training_memory
from smaug_eval.planning.placement import Placement
from smaug_eval.planning.plans import StagePlan
from smaug_eval.planning.work import pair_flops, pair_tokens, pairs_seen, steps_of, training_flops
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.launch import process_number


@dataclass(frozen=True)
class TrainingEstimate:
    """Estimate one training of a recipe.

    Attributes:
        name: The training's.
        config: Its keys.
        pairs: What its pair set holds.
    """

    name: str
    config: TrainingConfig
    pairs: PairFigures

    def reference(self, placed: Placement) -> StagePlan:
        """Return what it takes to score the pairs with the reference model, once, before the training.

        Args:
            placed: The reference model.
        """
        training, figures, setting = self.config, self._figures, self._setting(placed)
        # Where nothing trains, the pairs of a question always go together.
        pair, pairs = figures.within(self._length(placed), together=True), figures.pairs + figures.held_out
        memory = training_memory(placed.shape, setting)
        seconds = [
            pairs * pair_flops(placed.shape, pair, share) / (placed.flops * setting.processes)
            for share in (training.share_prefix, False)
        ]
        held = {"weights": memory.weights, "gathered": memory.gathered}
        return placed.stage(
            f"reference/{self.name}",
            [pairs * pair_tokens(pair, share) for share in (training.share_prefix, False)],
            seconds,
            setting.processes,
            held,
            sum(held.values()),
        )

    def training(self, placed: Placement) -> StagePlan:
        """Return what the training takes.

        Args:
            placed: The model that it starts from.
        """
        training, figures, setting = self.config, self._figures, self._setting(placed)
        machine, length = placed.machine, self._length(placed)
        pair = figures.within(length, together=training.batching == "question")
        held_out = figures.within(length, together=True)
        steps = steps_of(training, figures.pairs, setting.processes)
        trained = pairs_seen(training, figures.pairs, setting.processes)
        looks = 0 if not figures.held_out else 2 + steps // (training.eval_every or steps + 1)
        # KTO's divergence is that of a whole batch: where that has several parts, each is scored once more before.
        parted = setting.pairs_at_a_time < training.batch_size or setting.processes > 1
        twice = training.entry.unpaired and parted
        tokens, seconds = [], []
        for share in (training.share_prefix, False):
            each = training_flops(placed.shape, training, pair, share, setting.pairs_at_a_time)
            each += twice * pair_flops(placed.shape, pair, share)
            looked = looks * figures.held_out
            work = trained * each + looked * pair_flops(placed.shape, held_out, share)
            seconds.append(work / (placed.flops * setting.processes))
            tokens.append(trained * pair_tokens(pair, share) + looked * pair_tokens(held_out, share))
        memory = training_memory(placed.shape, setting)
        parts = {key: getattr(memory, key) for key in ("weights", "gradients", "optimiser", "gathered", "activations")}
        stage = placed.stage(f"train/{self.name}", tokens, seconds, setting.processes, parts, memory.total)
        stage.steps = steps
        if setting.processes > machine.count:
            stage.fits = False
            stage.problems.append(f"{setting.processes} processes, but {machine.count} GPUs")
            stage.changes.append(f"{setting.processes} GPUs")
            fewer = replace(setting, processes=machine.count)
            if training_memory(placed.shape, fewer).total <= machine.usable:
                stage.changes.append(f"--set trainings.{self.name}.launch.processes={machine.count}")
        if memory.total > machine.usable:
            stage.changes += changes_that_fit(self.name, placed.shape, setting, machine.usable)
        return stage

    @property
    def _figures(self) -> PairFigures:
        """What the training reads: pairs, or the completions that it makes of them."""
        return self.pairs.completions() if self.config.entry.unpaired else self.pairs

    def _length(self, placed: Placement) -> int:
        return min(self.config.max_length, placed.shape.context or self.config.max_length)

    def _setting(self, placed: Placement) -> MemorySetting:
        training, launch = self.config, self.config.launch
        processes = 1 if launch is None else process_number(launch)
        longest = self._figures.longest(self._length(placed), together=training.batching == "question")
        return MemorySetting(training, placed.dtype, sharing_of(launch), processes, placed.machine.count, longest)
