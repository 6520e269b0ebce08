"""Let the models of an ``mt_bench`` entry answer its questions."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from smaug_eval.common.console import Voice
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.redaction import redacted_record, redacted_values
from smaug_eval.common.served.budget import Estimate, Tokens, roughly_tokens
from smaug_eval.common.settings import added_settings
from smaug_eval.engines.build import choose_engine
from smaug_eval.engines.pool import EnginePool
from smaug_eval.engines.registry import ENGINES, EngineSpec
from smaug_eval.engines.served.generator import ServedGenerator
from smaug_eval.engines.served.settings import ApiSettings, read_api_settings
from smaug_eval.models.checkpoint import Checkpoint, served_name
from smaug_eval.mt_bench.answers import Answerer, answer_questions, check_prompts, turns_left
from smaug_eval.mt_bench.config import MtBenchConfig
from smaug_eval.mt_bench.files.questions import questions_hash
from smaug_eval.mt_bench.files.settings import AnswerSettings
from smaug_eval.mt_bench.stage.question_sets import find_question_set, selection_of
from smaug_eval.mt_bench.templates import ServedChat, Template, load_served_template, load_template

_OF_OTHERS = ("limit", "turns", "reference_categories", "stop", "within", "against", "served")
"""Keys that decide which questions there are, by whose hash they are told apart, which answers are judged, and how
other models are reached."""
_OF_RESULTS = ("base_url", "model", "api_version", "tokenizer", "max_length", "extra_body")
"""Settings of a served model that decide what it answers; the others say how it is asked."""
UNKNOWN = "unknown"
"""The precision of a served model."""


def dialogue_engine(requested: str) -> str:
    """Turn ``auto`` into ``vllm`` where a GPU and vLLM are there, else into ``torch``.

    Raises:
        SmaugError: vLLM was asked for by name and is not installed.
    """
    engine = choose_engine(requested)
    return "torch" if engine == "hf" else engine


class Answering:
    """Answer a question set with models.

    Args:
        config: The recipe's entry, as it is for the models (:meth:`MtBenchConfig.of`).
        seed: Where the entry has none.
        dtype: Precision of the models.
        reporter: Shows progress.
        trust_remote_code: Whether Python code that came with the models may run.

    Raises:
        SmaugError: there is no such question set or engine.
    """

    def __init__(
        self, config: MtBenchConfig, *, seed: int, dtype: str, reporter: Voice, trust_remote_code: bool = False
    ) -> None:
        self._config, self._dtype, self._reporter = config, dtype, reporter
        self._trusted = trust_remote_code
        self._seed = seed if config.seed is None else config.seed
        self._engine = dialogue_engine(config.engine)
        self._served: dict[str | None, Template] = {}
        self.questions = find_question_set(config.questions, config.references, selection_of(config))

    @property
    def is_served(self) -> bool:
        """Return whether a server runs the models."""
        return ENGINES[self._engine].is_served

    @property
    def inputs(self) -> dict[str, Any]:
        """Return what decides the answers, the model apart."""
        config = self._config
        return {
            **added_settings(config, _OF_OTHERS),
            "questions": self._questions_sha256(),
            "chat_template": config.chat_template,
            "system_prompt": config.system_prompt,
            "max_new_tokens": config.max_new_tokens,
            "seed": self._seed,
            "engine": self._engine,
            "engine_args": self._server() if self.is_served else dict(config.engine_args),
            "dtype": UNKNOWN if self.is_served else self._dtype,
        }

    def check(self, checkpoint: Checkpoint | Path, tokenizer: Path | None = None) -> None:
        """Try the chat template on every question.

        Args:
            checkpoint: The model, or its folder where it is still to be made.
            tokenizer: Folder of its tokenizer; the model's own if None.

        Raises:
            SmaugError: there is no such template, it refuses a question or the system prompt, or the model is a
                server's and cannot be asked in the way that the settings say.
        """
        if self.is_served:
            self._check_served(checkpoint)
        template = self._template(checkpoint, tokenizer)
        check_prompts(template, self.questions.questions)

    def answer(self, folder: Path, model: str, checkpoint: Checkpoint, pool: EnginePool) -> dict[str, Any]:
        """Let one model answer what it has not answered yet.

        Args:
            folder: Receives ``<model>.jsonl``.
            model: Its name.
            checkpoint: Its weights.
            pool: Where it is loaded.

        Returns:
            Numbers for the stage's record.

        Raises:
            Incomplete: a served model did not answer everything; what it answered is kept.
        """
        config = self._config
        template = self._template(checkpoint)

        def load() -> Answerer:
            if self.is_served:
                return Answerer(served, served.context() if self._sends_tokens(checkpoint) else None)
            spec = EngineSpec(
                self._engine,
                checkpoint.path,
                dtype=self._dtype,
                batch_size=config.batch_size,
                device=config.device,
                engine_args=config.engine_args,
                adapter=checkpoint.adapter,
                trust_remote_code=self._trusted,
            )
            lm: Any = pool.get(spec).watch.lm
            return Answerer(lm, lm.max_length)

        told: dict[str, Any] = {"report": self._reporter.update, "notice": self._reporter.warn}
        settings = self._settings(model, checkpoint)
        if not self.is_served:
            return answer_questions(load, template, self.questions.questions, settings, folder, **told)
        served = ServedGenerator(self._api, self._name_there(checkpoint), self._reporter.warn)
        self._reporter.say(f"  {model}: {self.forecast(folder, model, checkpoint)}")
        try:
            return answer_questions(load, template, self.questions.questions, settings, folder, **told)
        finally:
            self._reporter.say(f"  {model}: {served.spent}")

    def forecast(self, folder: Path, model: str, checkpoint: Checkpoint) -> str:
        """Say what is left to answer: of a served model its requests with their tokens and cost, the most it can be.

        Args:
            folder: Where ``<model>.jsonl`` is to be.
            model: Its name.
            checkpoint: Its weights.
        """
        questions = self.questions.questions
        total = sum(len(question.turns) for question in questions)
        left = turns_left(folder, self._settings(model, checkpoint), questions)
        done = f"; {total - len(left)} of {total} turns are answered already" if len(left) < total else ""
        if not self.is_served:
            return f"{len(left):,} turns to answer{done}"
        template, most = self._template(checkpoint), self._config.max_new_tokens
        # An answer before the turn may be as long as it can.
        read = [
            roughly_tokens(template.text(question.turns[:turn], [""] * (turn - 1))) + (turn - 1) * most
            for question, turn in left
        ]
        tokens, prices = Tokens(sum(read), most * len(left)), self._api.budget().prices
        return Estimate(len(left), tokens, None if prices is None else prices.of(tokens)).describe() + done

    def conversation(self, checkpoint: Checkpoint | Path) -> dict[str, Any]:
        """Return template and system message of the model, and of a served one where it is, for the manifest."""
        if not self.is_served:
            config = self._config
            return {"template": config.chat_template, "system_message": config.system_prompt}
        name, system_message = self._spoken(self._template(checkpoint))
        return {"template": name, "system_message": system_message, "served": self._served_as(checkpoint)}

    def _settings(self, model: str, checkpoint: Checkpoint) -> AnswerSettings:
        config, template, served = self._config, self._config.chat_template, None
        system_prompt = config.system_prompt
        if self.is_served:
            template, system_prompt = self._spoken(self._template(checkpoint))
            served = self._served_as(checkpoint)
        return AnswerSettings(
            model=model,
            model_sha256=checkpoint.sha256_with_tokenizer,
            question_set=self.questions.title,
            questions_sha256=self._questions_sha256(),
            template=template,
            system_prompt=system_prompt,
            seed=self._seed,
            max_new_tokens=config.max_new_tokens,
            engine=self._engine,
            dtype=UNKNOWN if self.is_served else self._dtype,
            thinking=config.thinking,
            served=served,
        )

    def _spoken(self, template: Template) -> tuple[str, str | None]:
        """The name of a served model's template, and the system message that is sent or takes its own's place."""
        system_message = template.system_message if isinstance(template, ServedChat) else self._config.system_prompt
        return template.name, system_message

    def _template(self, checkpoint: Checkpoint | Path, tokenizer: Path | None = None) -> Template:
        config, path = self._config, checkpoint if isinstance(checkpoint, Path) else checkpoint.path
        if self.is_served:
            own = self._api.tokenizer or (str(path) if served_name(_source(checkpoint)) is None else None)
            if own not in self._served:
                told = config.chat_template, config.system_prompt
                self._served[own] = load_served_template(*told, chat=self._chats, tokenizer=own)
            return self._served[own]
        return load_template(
            config.chat_template,
            path,
            config.system_prompt,
            trust_remote_code=self._trusted,
            tokenizer_folder=tokenizer or (None if isinstance(checkpoint, Path) else checkpoint.tokenizer),
        )

    def _questions_sha256(self) -> str:
        return questions_hash(self.questions.questions)

    # Served models

    @cached_property
    def _api(self) -> ApiSettings:
        return read_api_settings(self._config.engine_args)

    @property
    def _chats(self) -> bool:
        """Whether chat completions are requested."""
        return self._api.chat is not False

    def _sends_tokens(self, checkpoint: Checkpoint | Path) -> bool:
        return not self._chats and (self._api.tokenizer is not None or served_name(_source(checkpoint)) is None)

    def _server(self) -> dict[str, Any]:
        """What decides the answers of a served model, its name apart where that is the model's."""
        own = self._api.model_dump(mode="json", include=set(_OF_RESULTS), exclude_defaults=True)
        own["base_url"] = redacted_record(self._api.base_url)
        return {**redacted_values(own), "chat": self._chats}

    def _served_as(self, checkpoint: Checkpoint | Path) -> dict[str, Any]:
        return {**self._server(), "model": self._name_there(checkpoint)}

    def _name_there(self, checkpoint: Checkpoint | Path) -> str:
        source = _source(checkpoint)
        name = self._api.model or served_name(source)
        if name is None:
            raise SmaugError(
                f"engine api: what is {source} called on {self._api.base_url}?",
                fix="set engine_args.model, or give the model as api:NAME",
            )
        return name

    def _check_served(self, checkpoint: Checkpoint | Path) -> None:
        """Refuse settings that do nothing, or contradict each other, where a server answers."""
        self._name_there(checkpoint)
        told = self._config.engine_args
        if self._config.device is not None:
            raise SmaugError("device does nothing where a server runs the model", fix="leave it out")
        if self._config.batch_size != MtBenchConfig.model_fields["batch_size"].default:
            raise SmaugError("batch_size does nothing where a server runs the model", fix="set engine_args.concurrency")
        if "max_gen_toks" in told:
            raise SmaugError("engine_args.max_gen_toks does nothing in MT-Bench", fix="set max_new_tokens")
        tokens = self._sends_tokens(checkpoint)
        for name in ("tokenizer", "max_length"):
            if name in told and not tokens:
                what = "chat completions, which the server" if self._chats else "plain text, which the server"
                raise SmaugError(
                    f"engine_args.{name} does nothing for {what} turns into tokens",
                    fix="leave it out, or set engine_args.chat: false and engine_args.tokenizer to send tokens",
                )
        if isinstance(checkpoint, Checkpoint) and checkpoint.adapter is not None:
            raise SmaugError(
                f"the adapter {checkpoint.adapter} cannot be put beside a served model",
                fix="serve the model with it, and give it as api:NAME",
            )


def _source(checkpoint: Checkpoint | Path) -> str:
    return str(checkpoint) if isinstance(checkpoint, Path) else checkpoint.source
