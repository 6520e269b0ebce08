"""Let the models of an ``mt_bench`` entry answer its questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smaug_eval.common.console import Voice
from smaug_eval.common.settings import added_settings
from smaug_eval.engines.build import choose_engine
from smaug_eval.engines.pool import EnginePool
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.models.checkpoint import Checkpoint
from smaug_eval.mt_bench.answers import Answerer, answer_questions, check_prompts
from smaug_eval.mt_bench.config import MtBenchConfig
from smaug_eval.mt_bench.files.questions import questions_hash
from smaug_eval.mt_bench.files.settings import AnswerSettings
from smaug_eval.mt_bench.stage.question_sets import find_question_set, selection_of
from smaug_eval.mt_bench.templates import Template, load_template

_OF_OTHERS = ("limit", "turns", "reference_categories", "stop", "within", "against")
"""Keys that decide which questions there are, by whose hash they are told apart, and which answers are judged."""


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
        config: The recipe's entry.
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
        self.questions = find_question_set(config.questions, config.references, selection_of(config))

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
            "engine_args": dict(config.engine_args),
            "dtype": self._dtype,
        }

    def check(self, checkpoint: Path, tokenizer: Path | None = None) -> None:
        """Try the chat template on every question.

        Args:
            checkpoint: Folder of the model.
            tokenizer: Folder of its tokenizer; the same if None.

        Raises:
            SmaugError: there is no such template, or it refuses a question or the system prompt.
        """
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
        """
        config = self._config

        def load() -> Answerer:
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

        return answer_questions(
            load,
            self._template(checkpoint.path, checkpoint.tokenizer),
            self.questions.questions,
            AnswerSettings(
                model=model,
                model_sha256=checkpoint.sha256_with_tokenizer,
                question_set=self.questions.title,
                questions_sha256=self._questions_sha256(),
                template=config.chat_template,
                system_prompt=config.system_prompt,
                seed=self._seed,
                max_new_tokens=config.max_new_tokens,
                engine=self._engine,
                dtype=self._dtype,
                thinking=config.thinking,
            ),
            folder,
            report=self._reporter.update,
            notice=self._reporter.warn,
        )

    def _template(self, checkpoint: Path, tokenizer: Path | None) -> Template:
        config = self._config
        return load_template(
            config.chat_template,
            checkpoint,
            config.system_prompt,
            trust_remote_code=self._trusted,
            tokenizer_folder=tokenizer,
        )

    def _questions_sha256(self) -> str:
        return questions_hash(self.questions.questions)
