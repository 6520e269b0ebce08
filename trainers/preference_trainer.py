"""Train with a class that takes what TRL's ``DPOTrainer`` takes: models, data sets, a PEFT configuration, callbacks."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.checkpoint import locate
from smaug_eval.models.kinds import check_kind
from smaug_eval.models.quantised import Use
from smaug_eval.prefix.scorer import Scorer, scoring
from smaug_eval.trainers.base_model import check_ids, fitting_length, load_model, no_dropout
from smaug_eval.trainers.chat_templates import template_text
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.encoded_sets import set_beside_others
from smaug_eval.trainers.losses import preference_loss
from smaug_eval.trainers.pairs.columns import known, mapped
from smaug_eval.trainers.pairs.files import without_padding
from smaug_eval.trainers.pairs.formats import UnusableRow, pairs_of_row
from smaug_eval.trainers.preference_config import SHARDED_ELSEWHERE, PreferenceConfig
from smaug_eval.trainers.processes import weights_are_sharded
from smaug_eval.trainers.randomness import without_noise
from smaug_eval.trainers.reference import TokenLogProbs, score_pairs
from smaug_eval.trainers.remarks import remarks
from smaug_eval.trainers.tokenization import PairEncoder
from smaug_eval.trainers.trainer import PairTrainer, ScoredPairs, pair_metrics, summarise
from smaug_eval.trainers.unpaired import check_unpaired, unpaired_rows

log = logging.getLogger(__name__)

_UNSCORED = TokenLogProbs((), ())


class PreferenceTrainer(PairTrainer):
    """Train a model on preference pairs, in the place of TRL's ``DPOTrainer``.

    What the completions of a pair share is computed once, the reference is scored once before the first step, and the
    losses are those of docs/losses.md. transformers' own log, checkpoints, callbacks and ``report_to`` are as usual.

    Args:
        model: The policy, or its name on the Hub, or a folder.
        ref_model: The reference, or its name; None for the policy as it is before the first step.
        args: The arguments; the defaults where None.
        data_collator: None; batches are made here.
        train_dataset: Rows with ``prompt``, ``chosen``, ``rejected``, as text or messages, or in another form of
            :mod:`smaug_eval.trainers.pairs.formats`; several answers of a row make several pairs. For ``kto`` also rows
            with ``prompt``, ``completion``, ``label``; pairs are split into these as by TRL's ``KTOTrainer``.
        eval_dataset: Held-out rows, or several sets of them by name, whose metrics begin with ``eval_<name>_``; None
            for none.
        processing_class: The tokenizer; that of the model's name where None.
        compute_metrics: None; metrics are those of ``DPOTrainer``'s log.
        callbacks: As in transformers' ``Trainer``.
        optimizers: As in transformers' ``Trainer``.
        quantization_config: None; a quantised model is loaded before.
        peft_config: An adapter to train instead of all weights.

    Raises:
        SmaugError: an argument is refused by name, a row is no pair, or the model cannot be used.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel | str,
        ref_model: PreTrainedModel | str | None = None,
        args: PreferenceConfig | None = None,
        data_collator: Any = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        compute_metrics: Any = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        quantization_config: Any = None,
        peft_config: PeftConfig | None = None,
    ) -> None:
        for name, value in (("data_collator", data_collator), ("compute_metrics", compute_metrics)):
            _refuse(name, value, "leave it out: batches and metrics are made here")
        _refuse("quantization_config", quantization_config, "load the model with it, and give the object")
        if train_dataset is None:
            raise SmaugError("PreferenceTrainer needs train_dataset", fix="give a datasets.Dataset of preference rows")
        arguments = PreferenceConfig("preference-training") if args is None else args
        if not isinstance(arguments, PreferenceConfig):
            raise SmaugError(
                f"PreferenceTrainer(args=...) is a {type(arguments).__name__}",
                fix="give a PreferenceConfig, which takes the same arguments",
            )
        if not isinstance(model, (torch.nn.Module, str)):
            raise SmaugError(
                f"PreferenceTrainer(model={model!r}) is no model", fix="give a model, its name or its folder"
            )
        _check_loading(arguments, [model, ref_model])
        set_seed(arguments.seed)  # of the adapter's first weights
        own, tokenizer = _loaded(model, arguments)
        _check_trainable(own, peft_config)
        tokenizer = processing_class or tokenizer
        if tokenizer is None:
            raise SmaugError("PreferenceTrainer needs processing_class", fix="give the model's tokenizer")
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise SmaugError(
                f"PreferenceTrainer(processing_class=...) is a {type(tokenizer).__name__}",
                fix="give a tokenizer, such as that of a processor: processor.tokenizer",
            )
        autocast = torch.bfloat16 if arguments.computes_in_bf16 else None
        settings = self._settings = arguments.settings()
        self._columns, self._weight_column = arguments.columns_by_name, arguments.weight_column
        self._train_batch, self._eval_batch = arguments.train_batch_size, arguments.eval_batch_size
        if settings.chat_template is not None:
            tokenizer.chat_template = template_text(settings.chat_template)
        length = fitting_length(settings.max_length, own)
        self._encoder = _encoder(settings, tokenizer, length)
        train_pairs = self._encoded(train_dataset, "train_dataset")
        self._held_out = {} if eval_dataset is None else self._sets(eval_dataset, "eval_dataset")
        self._reference_model = None if ref_model is None else _loaded(ref_model, arguments)[0]
        for each, what in ((own, "model"), (self._reference_model, "ref_model")):
            if each is not None:
                check_ids(itertools.chain(*(one.pairs for one in (train_pairs, *self._held_out.values()))), each, what)
        self._has_fresh_adapter = _begins_as_nothing(peft_config)
        policy = own if peft_config is None else get_peft_model(own, peft_config)
        with _scorer_of(own, settings) as scorer:
            log.info("%s; %s", settings.describe(), scorer.describe())
        self._known = scorer
        self._is_taught = False
        super().__init__(
            policy,
            arguments,
            config=settings,
            scorer=scorer,
            train_pairs=train_pairs,
            eval_pairs=None,  # by their names below
            eval_dataset=self._held_out or None,
            autocast=autocast,
            callbacks=callbacks or [],
            processing_class=tokenizer,
            optimizers=optimizers,
        )
        if self.sampler is not None:
            log.info("%s", self.sampler.describe())
        if weights_are_sharded():
            raise SmaugError(
                "PreferenceTrainer does not train with sharded weights (FSDP, DeepSpeed)", fix=SHARDED_ELSEWHERE
            )

    def train(self, *arguments: Any, **keywords: Any) -> Any:
        """Score the reference where that is not done yet, and train; arguments as of transformers' ``Trainer``."""
        with self._taught():
            self._score_reference()
            return super().train(*arguments, **keywords)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score held-out pairs: those given at the start, or others, and log their metrics as TRL names them.

        Raises:
            SmaugError: there are none, a row is no pair, or the loss is not a finite number.
        """
        found: dict[str, float] = {}
        with self._taught():
            self._score_reference()
            given = None if eval_dataset is None else self._sets(eval_dataset, "eval_dataset")
            sets = self._held_out if given is None else {name: self._with_reference(own) for name, own in given.items()}
            if not sets:
                raise SmaugError("there are no held-out pairs", fix="give eval_dataset")
            for name, pairs in sets.items():
                scores = self._held_out_scores(self.score(pairs.pairs), pairs, self._eval_batch)
                losses = preference_loss(self._config.loss, self._config.weights, scores)
                metrics = pair_metrics(self._config, losses, scores)
                row = summarise({key: values.tolist() for key, values in metrics.items()})
                prefix = f"{metric_key_prefix}_{name}" if name else metric_key_prefix
                named = {f"{prefix}_{key}": value for key, value in row.items()}
                self.log(named)
                self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, named)
                found |= named
        return found

    def predict(self, *arguments: Any, **keywords: Any) -> Any:
        """Refuse to return logits of rows, of which pairs have none of their own.

        Raises:
            SmaugError: always.
        """
        raise SmaugError("PreferenceTrainer.predict is not taken", fix="call evaluate with the rows")

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Add the metrics of the pairs since the last row."""
        if "loss" in logs:
            logs = {**logs, **summarise(self._records.drain())}
        super(PairTrainer, self).log(logs, start_time)

    @contextmanager
    def _taught(self) -> Iterator[None]:
        """Let the model answer scored rows; afterwards it is as it was, for generation and saving."""
        if self._is_taught:
            yield
            return
        core = self.accelerator.unwrap_model(self.model)
        self._is_taught = True
        try:
            with ExitStack() as still:
                still.enter_context(no_dropout(core))
                still.enter_context(scoring(core, known=self._known))
                still.enter_context(without_noise(core, self._known))
                yield
        finally:
            self._is_taught = False

    def _score_reference(self) -> None:
        for pairs in (self.train_dataset, *self._held_out.values()):
            if isinstance(pairs, ScoredPairs) and not pairs.reference.chosen:
                self._with_reference(pairs)

    def _with_reference(self, pairs: ScoredPairs) -> ScoredPairs:
        """Score pairs by the reference.

        Raises:
            SmaugError: the reference is the policy, which has been trained already without a fresh adapter.
        """
        if self._reference_model is not None:
            model = self._reference_model.to(self.args.device)
            with _scorer_of(model, self._config) as scorer:
                pairs.reference = score_pairs(
                    scorer, model, pairs.pairs, row_tokens=self._config.row_tokens, autocast=self._autocast
                )
        elif self.state.global_step and self._has_fresh_adapter:
            with self.accelerator.unwrap_model(self.model).disable_adapter():
                pairs.reference = self.score(pairs.pairs)
        elif self.state.global_step:
            raise SmaugError(
                "the reference is the model before its first step, which is gone", fix="give ref_model, or eval_dataset"
            )
        else:
            pairs.reference = self.score(pairs.pairs)
        return pairs

    def _sets(self, rows: Any, what: str) -> dict[str, ScoredPairs]:
        """Encode a set of rows, which has an empty name, or several by their names."""
        if not isinstance(rows, Mapping):
            return {"": self._encoded(rows, what)}
        return {str(name): self._encoded(own, f"{what}[{name!r}]") for name, own in rows.items()}

    def _encoded(self, rows: Any, what: str) -> ScoredPairs:
        if isinstance(rows, (IterableDataset, Mapping)) or not hasattr(rows, "__len__"):
            several = f", such as {what}[{next(iter(rows))!r}]" if isinstance(rows, Mapping) and rows else ""
            raise SmaugError(
                f"{what} is of type {type(rows).__name__}, which is not taken",
                fix=f"give a datasets.Dataset{several}, or a list of rows",
            )
        unpaired, unusable = self._settings.entry.unpaired, Counter[str]()
        pairs = rows_of_dataset(rows, what, self._columns, self._weight_column, unusable)
        try:
            encoded = self._encoder.encode(unpaired_rows(pairs) if unpaired else pairs, labelled=unpaired)
        except SmaugError as error:
            raise SmaugError(_placed(error.message, what), fix=error.fix) from error
        encoded.dropped += unusable
        said = [
            remark.text
            for remark in remarks(encoded, what, asked=self._encoder.max_length, used=self._encoder.max_length)
        ]
        if not encoded.pairs:
            raise SmaugError(f"{what}: no pair is left ({dict(encoded.dropped)})", fix="give pairs that differ")
        if unpaired:
            check_unpaired(encoded.pairs, what)
            said += set_beside_others(
                encoded,
                self._settings.weights,
                what,
                batch_size=self._train_batch,  # of held-out rows, too, as in TRL
                max_length=self._encoder.max_length,
                seed=None,
            )
        for text in said:
            log.warning("%s", text)
        return ScoredPairs(encoded.pairs, _UNSCORED)


def rows_of_dataset(
    rows: Any, what: str, columns: Mapping[str, str], weight_column: str | None, unusable: Counter[str]
) -> Iterator[Mapping[str, Any]]:
    """Yield the pairs of a data set in the form of pair files: several of a row that has several answers.

    Args:
        rows: The rows, in any form of :mod:`smaug_eval.trainers.pairs.formats`.
        what: What to call the data set.
        columns: Columns under other names; by the name here, that in the rows.
        weight_column: Column with the factor of a pair's loss, of the rows that have it.
        unusable: Counts rows that contradict themselves, by reason.

    Raises:
        SmaugError: a row is no pair; the message names it.
    """
    for number, row in enumerate(rows, 1):
        where = f"{what}, row {number}"
        named = mapped(where, without_padding(row), columns) if columns else known(without_padding(row))
        weighs = weight_column if isinstance(named, dict) and named.get(weight_column or "") is not None else None
        try:
            pairs, _ = pairs_of_row(where, named, weight=weighs)
        except UnusableRow as error:
            unusable[error.reason] += 1
            continue
        yield from (pair.row() for pair in pairs)


def _placed(message: str, what: str) -> str:
    """A message of the encoder with the name of the data set, where it has none."""
    return message if message.startswith(what) else f"{what}, {message}"


def _refuse(name: str, value: Any, instead: str) -> None:
    if value is not None:
        raise SmaugError(f"PreferenceTrainer({name}=...) is not taken", fix=instead)


def _check_loading(arguments: PreferenceConfig, models: Sequence[Any]) -> None:
    """Refuse what says how to load a model where none is loaded."""
    if any(isinstance(model, str) for model in models):
        return
    for name in ("model_init_kwargs", "trust_remote_code"):
        if getattr(arguments, name):
            raise SmaugError(
                f"PreferenceConfig({name}=...) is for a model that is loaded here",
                fix=f"give the model's name, or leave {name} out",
            )


def _loaded(
    model: PreTrainedModel | PeftModel | str, arguments: PreferenceConfig
) -> tuple[Any, PreTrainedTokenizerBase | None]:
    """A model object as it is, or the model and the tokenizer of a name."""
    if not isinstance(model, str):
        return model, None
    settings = arguments.object_of("model_init_kwargs")
    unknown = sorted(set(settings) - {"revision", "dtype", "torch_dtype"})
    if unknown:
        raise SmaugError(
            f"model_init_kwargs: {', '.join(unknown)} is not taken", fix="load the model yourself, and give the object"
        )
    dtype = str(settings.get("dtype", settings.get("torch_dtype", "float32"))).removeprefix("torch.")
    trusted = arguments.trust_remote_code
    place = locate(model, revision=settings.get("revision"), trust_remote_code=trusted, uses=[Use.TRAINING])
    return load_model(place.path, dtype=dtype, keep_dtype=True, use=Use.TRAINING, trust_remote_code=trusted)


def _check_trainable(model: Any, adapter: PeftConfig | None) -> None:
    """Refuse a model object that a run would refuse by its folder, and adapters that are read before the prompt.

    Raises:
        SmaugError: it is no causal language model, has weights in float16, learns a prompt, has an adapter already, or
            is frozen.
    """
    if adapter is None and not any(weight.requires_grad for weight in model.parameters()):
        raise SmaugError(
            "PreferenceTrainer(model=...) has no weight that is trained: all are frozen",
            fix="give peft_config, or load an adapter with is_trainable=True",
        )
    if adapter is not None and isinstance(model, PeftModel):
        raise SmaugError(
            "PreferenceTrainer(peft_config=...) is not taken beside a model that has an adapter",
            fix="leave peft_config out to train that adapter, or give model.merge_and_unload()",
        )
    adapters = [adapter, model.active_peft_config if isinstance(model, PeftModel) else None]
    for each in adapters:
        if each is not None and each.is_prompt_learning:
            raise SmaugError(
                f"PreferenceTrainer(peft_config={type(each).__name__}) is not taken: it learns tokens before the rows",
                fix="give an adapter of weights, such as peft.LoraConfig",
            )
    name = str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
    check_kind(name, model.config.to_dict(), [Use.TRAINING])
    if any(weight.dtype == torch.float16 for weight in model.parameters()):
        raise SmaugError(
            f"model {name!r} has weights in float16, whose gradients would need a scaler",
            fix="load it with dtype=torch.float32 or torch.bfloat16",
        )


def _begins_as_nothing(adapter: PeftConfig | None) -> bool:
    """Whether the model without this adapter is the policy before its first step."""
    return isinstance(adapter, LoraConfig) and adapter.init_lora_weights is True and adapter.bias == "none"


def _encoder(settings: TrainingConfig, tokenizer: PreTrainedTokenizerBase, length: int) -> PairEncoder:
    return PairEncoder(
        tokenizer,
        length,
        max_prompt_length=settings.max_prompt_length,
        append_eos=settings.append_eos,
        max_completion_length=settings.max_completion_length,
        truncation_mode=settings.truncation_mode,
        long_prompts=settings.long_prompts,
        template_settings=settings.chat_template_kwargs,
        system_prompt=settings.system_prompt,
    )


@contextmanager
def _scorer_of(model: Any, settings: TrainingConfig) -> Iterator[Scorer]:
    """Find out how a model is scored, with its dropout switched off."""
    with no_dropout(model), scoring(model, share=settings.share_prefix) as scorer:
        yield scorer
