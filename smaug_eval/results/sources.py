"""Read what a report compares: smaug-eval run directories, anybody's results, training logs, FastChat's judgments.

Nothing here computes a score; files become dataclasses, and what cannot be read is named while the rest is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import refuse_links_out, refuse_unreadable
from smaug_eval.mt_bench.files.layout import JUDGMENTS, RUN_FOLDER
from smaug_eval.results import foreign
from smaug_eval.results.arms import arms_of
from smaug_eval.results.files import (
    RESULTS_PATTERN,
    Unread,
    Unreadable,
    failed,
    first_line,
    json_files,
    list_files,
    notes_of,
    refusal_of,
    results_in,
    samples_of,
)
from smaug_eval.results.fitting import with_readable_samples
from smaug_eval.results.json_files import mapping, read_object
from smaug_eval.results.judged import JudgedSet, dialogue_files, holds_dialogues, read_dialogues
from smaug_eval.results.layout import (
    CURVES,
    MANIFEST,
    REPORT,
    TRAININGS,
    choice_stage,
    evaluation_stage,
    own_paths,
    steps_in,
    training_paths,
)
from smaug_eval.results.names import ModelName, plain
from smaug_eval.results.task_results import Evaluation, TaskResult, evaluation_of
from smaug_eval.results.trainings import Training, is_training, read_training
from smaug_eval.trainers.layout import LOG_FILE, STATS_FILE, SUMMARY_FILE

BASE = "base"
"""What a run calls the model that it was given."""

Read = TypeVar("Read")


@dataclass
class Source:
    """Hold what one given path holds.

    Attributes:
        label: The path's last component, or the run's name.
        is_run: Whether it is a smaug-eval run directory.
        results: model name -> task name -> newest result.
        dialogues: Judged answers, by question set and judge.
        pair_sets: Name to what its builder counted, for every set of pairs.
        missing: In plain words, what a finished run would have.
        notes: In plain words, what was decided while reading.
        folder: The run directory; None for other sources.
        root: The folder that others' files were looked for in; None for run directories.
        evaluations: The results files behind ``results``.
        unread: Files that were found and not read.
        recorded: Model name in ``results`` to its name in the manifest, where they differ.
        stands_apart: Whether its models are never joined with other sources' models of the same name.
    """

    label: str
    is_run: bool
    manifest: Mapping[str, Any] | None = None
    trainings: list[Training] = field(default_factory=list)
    results: dict[str, dict[str, TaskResult]] = field(default_factory=dict)
    dialogues: list[JudgedSet] = field(default_factory=list)
    pair_sets: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folder: Path | None = None
    root: Path | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    recorded: dict[str, str] = field(default_factory=dict)
    stands_apart: bool = False

    @property
    def names_its_models(self) -> bool:
        """Return whether its models bear names that only it gives.

        A run's own models do, unless it evaluated a checkpoint alone.
        """
        return self.stands_apart or (self.is_run and not self.recorded)

    def described(self, model: str) -> Mapping[str, Any]:
        """Return what the manifest says of a model of ``results``; empty where it does not name it."""
        models = mapping((self.manifest or {}).get("models"))
        return mapping(models.get(self.recorded.get(model, model)))


def read_sources(paths: Sequence[Path]) -> list[Source]:
    """Read what some paths hold; a path of which nothing can be read does not take the others away.

    Raises:
        SmaugError: a path does not exist or holds nothing, or nothing of any can be read.
    """
    sources: list[Source] = []
    failures: list[tuple[Path, Unreadable]] = []
    for path in paths:
        try:
            sources.append(read_source(path))
        except Unreadable as error:
            failures.append((path, error))
    if failures and not sources:
        first = failures[0][1]
        if len(failures) == 1:
            raise first
        raise Unreadable("; ".join(error.message for _, error in failures), fix=first.fix)
    sources[0].unread += [failed(path, error) for path, error in failures] if failures else []
    return sources


def read_source(path: Path) -> Source:
    """Read what ``path`` holds.

    Raises:
        SmaugError: it does not exist, holds nothing to report on, or holds nothing that can be read.
    """
    if not path.exists():
        raise SmaugError(
            f"{path} does not exist",
            fix="give a run directory, a file or folder of lm-eval results, or a file of FastChat judgments",
        )
    if path.is_file():
        refuse_unreadable(str(path), "results")
    else:
        refuse_links_out(path, _files_to_read(path))
    if is_training(path):
        folder = path.resolve().parent if path.is_file() else path.resolve()
        found = read_training(folder)
        # A folder may be one of judged answers, too.
        dialogues = read_dialogues(path) if path.is_dir() and holds_dialogues(path) else []
        return Source(folder.name, is_run=False, trainings=[found] if found else [], dialogues=dialogues)
    if path.is_file() and ".jsonl" in path.suffixes and foreign.is_sample(first_line(path)):
        raise refusal_of([Unread(path, foreign.SAMPLES)], path)
    if holds_dialogues(path):
        told = [each for each in read_dialogues(path) if each.models or each.settings or each.judgments.notes]
        source = Source(path.resolve().stem, is_run=False, dialogues=told)
    else:
        source = read_run(path) if is_run_directory(path) else read_plain(path)
    if not (source.results or source.trainings or source.dialogues or source.manifest):
        if source.unread:
            raise refusal_of(source.unread, path)
        raise SmaugError(
            f"no lm-eval results, judgments, training logs or manifest under {path}",
            fix="give a smaug-eval run directory, or a folder with results of lm-eval (results_*.json, results.json, "
            "or any JSON with results and config), such as huggingface_hub's local_dir or a snapshot in its cache",
        )
    return source


def _files_to_read(folder: Path) -> Iterable[Path]:
    """List what :func:`read_source` may open in a folder; it leaves alone whatever else is there."""
    if is_training(folder):
        return training_paths(folder)
    if holds_dialogues(folder):
        return dialogue_files(folder)
    if is_run_directory(folder):
        return own_paths(folder)
    return json_files(folder)


def is_run_directory(path: Path) -> bool:
    """Return whether ``path`` is laid out as a run of smaug-eval: a manifest, training logs, results or judgments."""
    return (
        (path / MANIFEST).is_file()
        or any(path.glob(f"{TRAININGS}/*/{LOG_FILE}"))
        or any(path.glob(f"{evaluation_stage('*', '*', '*')}/{RESULTS_PATTERN}"))
        or any(path.glob(f"{RUN_FOLDER}/*/{JUDGMENTS}/*/*.jsonl"))
    )


def read_plain(path: Path) -> Source:
    """Read results that were not made by a run of ours: one file, or every results file below a directory."""
    root = path.parent if path.is_file() else path
    source = Source(root.resolve().name, is_run=False, root=root)
    listing = list_files(path)
    source.unread += listing.unread
    used: set[Path] = set()
    folders = [file.parent for file in listing.files]
    for file in listing.files:
        with _tolerant(source, file):
            document = results_in(file)
            if isinstance(document, Unread):
                source.unread.append(document)
                continue
            is_only = folders.count(file.parent) == 1 and (path != file or not _has_neighbours(file))
            samples = samples_of(file, document, listing.lines.get(file.parent, []), is_only=is_only)
            used |= {each for each in samples.values() if isinstance(each, Path)}
            source.evaluations.append(evaluation_of(file, document, samples))
    if path.is_dir():
        left = (file for files in listing.lines.values() for file in files if file not in used)
        source.unread += [Unread(file, foreign.kind_of(file, first_line(file))) for file in left]
    settle(source)
    return source


def settle(source: Source) -> None:
    """Make the results of a source from its evaluations."""
    arms = arms_of(source.evaluations)
    source.results = {}
    for arm in arms:
        if arm.results:
            source.results.setdefault(arm.name, {}).update(arm.results)
    source.notes += [note for arm in arms for note in arm.notes]


def without_damaged_samples(sources: Sequence[Source]) -> list[Source]:
    """Return sources whose damaged files of samples are among what was not read; their results stay.

    Args:
        sources: Their results may be of any origin.
    """
    found = []
    for source in sources:
        results, unread = with_readable_samples(source.results)
        found.append(replace(source, results=results, unread=[*source.unread, *unread]))
    return found


def unread_notes(source: Source) -> list[str]:
    """Say what was found in a source and not read."""
    return notes_of(source.unread, source.folder or source.root or Path())


def read_run(path: Path) -> Source:
    """Read a smaug-eval run directory, finished or not."""
    source = Source(path.resolve().name, is_run=True, folder=path)
    manifest_file = path / MANIFEST
    if manifest_file.is_file():
        source.manifest = _read(source, manifest_file, read_object)
    source.label = str((source.manifest or {}).get("name") or source.label)
    for folder in _folders(path / TRAININGS):
        if training := _read(source, folder, read_training):
            source.trainings.append(with_checkpoints(source, path, training))
    for folder in _folders(path / RUN_FOLDER):
        source.dialogues += _read(source, folder, read_dialogues) or []
    for folder in _folders(path / "pairs"):
        if (stats := folder / STATS_FILE).is_file() and (counted := _read(source, stats, read_object)) is not None:
            source.pair_sets[folder.name] = counted
    declared = list(mapping((source.manifest or {}).get("models")))
    for folder in _folders(path / "eval"):
        _read_model(source, folder)
    order = [*(name for name in declared if name in source.results), *source.results]
    source.results = {name: source.results[name] for name in dict.fromkeys(order)}
    source.missing = list(_gaps(source, declared))
    _name_checkpoint(source)
    return source


def with_checkpoints(source: Source, run: Path, training: Training) -> Training:
    """Add to a training what its checkpoints were scored.

    Args:
        source: Its manifest says what the evaluations are; files that cannot be read are noted there.
        run: The run directory.
        training: As it was read.
    """
    scored: dict[tuple[str, str], dict[int, dict[str, TaskResult]]] = {}
    for evaluation in _folders(run / CURVES / training.name):
        for column in _folders(evaluation):
            for step, folder in steps_in(column).items():
                for file in sorted(folder.glob(RESULTS_PATTERN)):
                    with _tolerant(source, file):
                        found = _evaluation_in(file)
                        scored.setdefault((evaluation.name, column.name), {})[step] = dict(found.tasks)
    configured = mapping(mapping((source.manifest or {}).get("recipe")).get("evaluations"))
    development = frozenset(name for name in configured if mapping(configured[name]).get("development") is True)
    summary = run / choice_stage(training.name) / SUMMARY_FILE
    chosen = _read(source, summary, read_object) if summary.is_file() else None
    return replace(training, scored=scored, development=development, chosen=chosen or {})


def _evaluation_in(file: Path) -> Evaluation:
    """Read one of a run's own results files, with the samples beside it."""
    document = read_object(file)
    beside = sorted(file.parent.glob("samples_*"))
    return evaluation_of(file, document, samples_of(file, document, beside, is_only=True))


def _read_model(source: Source, folder: Path) -> None:
    """Read the evaluations of one model of a run."""
    evaluations = []
    for file in sorted(folder.rglob(RESULTS_PATTERN)):
        with _tolerant(source, file):
            evaluations.append(replace(_evaluation_in(file), model=ModelName(folder.name, "")))
    arms = arms_of(evaluations)
    for arm in arms:
        if arm.results:
            source.results[arm.name] = arm.results
    source.recorded |= {arm.name: folder.name for arm in arms if arm.name != folder.name and arm.results}
    source.evaluations += evaluations
    if len(arms) == 1:
        source.notes += _repeated_tasks(folder)


def _name_checkpoint(source: Source) -> None:
    """Call the only model of a run that evaluated a checkpoint and trained nothing by the checkpoint's name."""
    manifest = source.manifest or {}
    given = mapping(mapping(manifest.get("models")).get(BASE)).get("source")
    trained = mapping(mapping(manifest.get("recipe")).get("trainings"))
    only = [source.recorded.get(name, name) for name in source.results]
    if not isinstance(given, str) or set(only) != {BASE} or source.trainings or trained or source.dialogues:
        return
    name = plain(given.removeprefix("embedded:"))
    renamed = {old: old.replace(BASE, name, 1) for old in source.results}
    source.results = {renamed[old]: results for old, results in source.results.items()}
    source.recorded = dict.fromkeys(renamed.values(), BASE)
    source.evaluations = [replace(each, model=ModelName(name, "")) for each in source.evaluations]


def _gaps(source: Source, declared: Sequence[str]) -> Iterator[str]:
    """Yield what a finished run would have, and this one lacks."""
    if source.manifest is None:
        yield "no manifest.json: versions, seeds and hardware are not known"
    stages = (source.manifest or {}).get("stages")
    for stage in map(mapping, stages if isinstance(stages, list) else []):
        # The report is never done while it is being written.
        if stage.get("name") != REPORT and stage.get("status") != "done":
            yield f"stage {stage.get('name')} is not done"
    evaluated = {source.recorded.get(name, name) for name in source.results}
    if not source.results and not source.dialogues:
        yield "no evaluation results yet"
    if source.results:
        yield from (f"model {name} has no evaluation results" for name in declared if name not in evaluated)
    yield from (
        f"training {each.name} has not finished (no summary.json)" for each in source.trainings if not each.summary
    )
    yield from (f"training {each.name} has logged nothing yet" for each in source.trainings if each.rows.empty)


def _repeated_tasks(model_folder: Path) -> Iterator[str]:
    """Yield a note for each task that several evaluations of one model hold."""
    seen: dict[str, set[str]] = {}
    for path in model_folder.glob(f"*/*/{RESULTS_PATTERN}"):
        seen.setdefault(path.parent.name, set()).add(path.parent.parent.name)
    for task, evaluations in sorted(seen.items()):
        if len(evaluations) > 1:
            where = ", ".join(sorted(evaluations))
            yield f"{model_folder.name}: task {task} was evaluated in {where}; the newest is shown"


@contextlib.contextmanager
def _tolerant(source: Source, path: Path) -> Iterator[None]:
    """Note a file that cannot be read, and go on."""
    try:
        yield
    except SmaugError as error:
        source.unread.append(failed(path, error))
    except OSError as error:
        source.unread.append(failed(path, SmaugError(f"{path} cannot be read: {error.strerror or error}")))


def _read(source: Source, path: Path, reader: Callable[[Path], Read]) -> Read | None:
    found = []
    with _tolerant(source, path):
        found.append(reader(path))
    return found[0] if found else None


def _has_neighbours(file: Path) -> bool:
    """Return whether other JSON files than samples lie beside a file."""
    names = (each.name for each in file.parent.glob("*.json*") if each != file)
    return any(not name.startswith("samples_") and ".jsonl" not in name for name in names)


def _folders(parent: Path) -> list[Path]:
    return sorted(child for child in parent.iterdir() if child.is_dir()) if parent.is_dir() else []
