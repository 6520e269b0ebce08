"""Find code that the YAML of lm-eval's tasks would run, and refuse that of a user's folder unless the recipe trusts it.

What runs code: ``!function`` (a file beside the YAML, or any module), metrics that the library ``evaluate`` fetches
from the Hub, and pickled data. Templates are text, but Jinja can reach Python objects from them; they are rendered in
Jinja's sandbox, lm-eval's own too. ``!function`` in lm-eval's own files is code of the installed package.

lm-eval reads the files again whenever it loads a task: :func:`loading_as_checked` holds it to what was checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.lm_eval.task_index import members_of
from smaug_eval.leaderboard.lm_eval.task_keys import FUNCTION, check_keys, keys_of

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

SWITCH = "trust_task_code"
_PICKLED = ("pandas",)
"""Builders of ``datasets`` that unpickle."""
_NAMED = 3


@dataclass(frozen=True)
class Definition:
    """Hold the files that define a task or group.

    Attributes:
        files: YAML files, those that they include and, beside a file with functions, the Python files; each with the
            SHA-256 of its bytes as they were checked.
        code: What of a user's folder would run; empty where nothing would.
        runs_programs: Whether one says that it runs what a model wrote.
        places: Of texts in a user's files, file and line.
    """

    files: Mapping[Path, str]
    code: tuple[str, ...]
    runs_programs: bool = False
    places: Mapping[str, str] = field(default_factory=dict)

    def sha256(self) -> str:
        """Return one hash over names and bytes of the files, whatever folder they are in."""
        digest = hashlib.sha256()
        for content in sorted((file.name, sha256) for file, sha256 in self.files.items()):
            digest.update(repr(content).encode())
        return digest.hexdigest()


def read_definition(name: str, manager: TaskManager) -> Definition:
    """Return the files that define a task or group, its members included.

    Raises:
        SmaugError: a file cannot be read, or is no YAML; a key of a user's file is unknown or has a value that lm-eval
            does not take; a group is a member of itself.
    """
    read = _Files()
    for path in _paths_of(name, manager, set(), ()):
        read.included(path, ())
    code: list[str] = []
    scripts: dict[Path, str] = {}
    places: dict[str, str] = {}
    runs = {file: _code_of(tree) for file, tree in read.trees.items()}
    for file, tree in read.trees.items():
        found = runs[file]
        if found:
            beside = file.parent.glob("*.py") if _is_lm_evals(file) else file.parent.rglob("*.py")
            scripts |= {script: _sha256(_content(script)) for script in sorted(beside)}
        if not _is_lm_evals(file):
            check_keys(file, tree, manager.task_index, with_code=any(runs.values()))
            code += [f"{file}, line {line}: {what}" for line, what in found]
            for node in _nodes(tree):
                if isinstance(node, yaml.ScalarNode):
                    places.setdefault(node.value, f"{file}, line {node.start_mark.line + 1}")
    programs = any(map(_runs_programs, read.trees.values()))
    return Definition({**read.sha256s, **scripts}, tuple(code), programs, places)


def refuse_code(name: str, definition: Definition, *, trusted: bool) -> None:
    """Refuse a task of a user's folder that runs code, unless it is trusted.

    Raises:
        SmaugError: it does.
    """
    if trusted or not definition.code:
        return
    more = f", and {len(definition.code) - _NAMED} more" if len(definition.code) > _NAMED else ""
    raise SmaugError(
        f"task {name!r} would run code that is not lm-eval's own: {'; '.join(definition.code[:_NAMED])}{more}",
        fix=f"read that code; if you trust it, set {SWITCH}: true in the evaluation (--set {SWITCH}=true)",
    )


def refuse_programs(name: str, definition: Definition) -> None:
    """Refuse a task that runs what a model wrote, before lm-eval loads what runs it.

    Raises:
        SmaugError: its YAML says so (``unsafe_code``).
    """
    if definition.runs_programs:
        raise programs_refused(name)


def programs_refused(name: str) -> SmaugError:
    """Return the error for a task that runs what a model wrote."""
    return SmaugError(
        f"task {name!r} runs programs that a model wrote, which is not done here",
        fix="run it with lm_eval itself in a container (--confirm_run_unsafe_code), and give its results to "
        "smaug-eval scores or report",
    )


def trust_warning(names: Sequence[str], folder: Path | None) -> str:
    """Return the warning about tasks whose code was allowed to run, for the reader of their numbers."""
    return f"tasks {', '.join(names)} of {folder} may run Python code of their own: the recipe sets {SWITCH}"


def unreadable_files(folder: Path, known: Collection[str]) -> list[str]:
    """Return which YAML files of a folder lm-eval cannot read, each with the reason: it leaves them out in silence.

    Args:
        folder: The folder.
        known: Names of tasks, tags and groups.
    """
    found = []
    for path in sorted(folder.rglob("*.yaml")):
        files = _Files()
        try:
            files.included(path.resolve(), ())
            with_code = any(map(_code_of, files.trees.values()))
            for file, tree in files.trees.items():
                check_keys(file, tree, known, with_code=with_code)
        except SmaugError as error:
            found.append(error.message)
    return list(dict.fromkeys(found))


@contextmanager
def loading_as_checked(definitions: Iterable[Definition]) -> Iterator[None]:
    """Make lm-eval load YAML outside its own folder with the very bytes that were checked, while it lasts.

    lm-eval reads a task's files each time it loads the task. What it is given is compared before it is parsed, so that
    nothing runs that was not checked, however late a file is changed.

    Args:
        definitions: What was checked, and allowed.

    Raises:
        SmaugError: within the context, a file is another one now, or was not checked at all.
    """
    from lm_eval.tasks import _yaml_loader

    checked: dict[Path, set[str]] = {}
    for definition in definitions:
        for file, sha256 in definition.files.items():
            checked.setdefault(file, set()).add(sha256)
    original = _yaml_loader._make_loader

    def make_loader(base_dir: Path, *, resolve_funcs: bool) -> Any:
        loader: Any = original(base_dir, resolve_funcs=resolve_funcs)

        class CheckedYaml(loader):
            def __init__(self, stream: Any) -> None:
                content = stream.read()
                _refuse_unchecked(Path(stream.name), content, checked)
                super().__init__(content)

        return CheckedYaml if resolve_funcs else loader

    _yaml_loader._make_loader = make_loader
    try:
        yield
    finally:
        _yaml_loader._make_loader = original


@contextmanager
def sandboxed_templates() -> Iterator[None]:
    """Render lm-eval's templates in Jinja's sandbox while it lasts: they then reach no Python internals."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment
    from lm_eval import utils

    before = utils.env
    inside = SandboxedEnvironment(loader=before.loader, undefined=StrictUndefined, keep_trailing_newline=True)
    inside.filters.update(before.filters)
    utils.env = inside
    try:
        yield
    finally:
        utils.env = before


def _paths_of(name: str, manager: TaskManager, seen: set[str], above: tuple[str, ...]) -> Iterator[Path]:
    """The YAML files of a name and of everything that it names."""
    entry = manager.task_index.get(name)
    if name in above:
        file = "" if entry is None else entry.yaml_path
        raise SmaugError(
            f"{file}: group {name!r} is a member of itself: {' > '.join((*above[above.index(name) :], name))}",
            fix="take it out of that list",
        )
    if entry is None or name in seen:
        return
    seen.add(name)
    if entry.yaml_path is not None:
        yield Path(entry.yaml_path).resolve()
    for member in members_of(entry):
        yield from _paths_of(member, manager, seen, (*above, name))


def _refuse_unchecked(path: Path, content: bytes, checked: Mapping[Path, Collection[str]]) -> None:
    path = path.resolve()
    if _is_lm_evals(path) or _sha256(content) in checked.get(path, ()):
        return
    what = "has changed since it was checked" if path in checked else "was not among the files that were checked"
    raise SmaugError(f"{path} {what}; it may hold code, and is not loaded", fix="leave it as it is, and run again")


class _Files:
    """YAML files of a task, each read once: what is checked and hashed is one content.

    Attributes:
        sha256s: Of each file's bytes.
        trees: What each says.
    """

    def __init__(self) -> None:
        self.sha256s: dict[Path, str] = {}
        self.trees: dict[Path, yaml.Node] = {}

    def included(self, path: Path, above: tuple[Path, ...]) -> None:
        """Read a file and all that it includes.

        Raises:
            SmaugError: one cannot be read, is no YAML, or includes itself.
        """
        if path in above:
            raise SmaugError(f"{path} includes itself", fix="remove the include")
        if path not in self.trees:
            content = _content(path)
            self.trees[path] = _tree(path, content)
            self.sha256s[path] = _sha256(content)
        for key, value in self.trees[path].value:
            if key.value == "include":
                for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    self.included((path.parent / str(each.value)).resolve(), (*above, path))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SmaugError(f"{path} cannot be read: {error.strerror or error}", fix="correct the include") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _tree(path: Path, content: bytes) -> yaml.MappingNode:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        tree = yaml.compose(content, Loader=loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise SmaugError(f"{path}, line {line}: not valid YAML: {error.problem}", fix="correct that line") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SmaugError(f"{path}: not valid YAML: {error}", fix="correct it") from error
    if not isinstance(tree, yaml.MappingNode):
        raise SmaugError(f"{path}: not a mapping of keys", fix="write a task or group as lm-eval's guide shows")
    return tree


def _runs_programs(tree: yaml.Node) -> bool:
    unsafe = keys_of(tree).get("unsafe_code")
    return isinstance(unsafe, yaml.ScalarNode) and str(unsafe.value).lower() in ("true", "yes", "on")


def _code_of(tree: yaml.Node) -> list[tuple[int, str]]:
    """Line and kind of everything in a YAML file that runs code."""
    found: list[tuple[int, str]] = []
    for node in _nodes(tree):
        if node.tag == FUNCTION:
            found.append((node.start_mark.line + 1, f"{FUNCTION} {node.value}"))
        keys = keys_of(node)
        data = keys.get("dataset_path")
        if isinstance(data, yaml.ScalarNode) and data.value in _PICKLED:
            found.append((data.start_mark.line + 1, f"dataset_path {data.value}, which unpickles its files"))
        metrics = keys.get("metric_list")
        for metric in metrics.value if isinstance(metrics, yaml.SequenceNode) else ():
            found += _fetched(keys_of(metric))
    return sorted(found)


def _fetched(keys: Mapping[Any, yaml.Node]) -> Iterator[tuple[int, str]]:
    """An entry of ``metric_list`` that lm-eval does not know: it then loads a script of that name from the Hub."""
    import lm_eval.api.metrics  # noqa: F401  fills the table
    from lm_eval.api.registry import metric_registry

    metric, evaluated = keys.get("metric"), keys.get("hf_evaluate")
    if not isinstance(metric, yaml.ScalarNode) or metric.tag == FUNCTION:
        return
    asked = isinstance(evaluated, yaml.ScalarNode) and str(evaluated.value).lower() in ("true", "yes", "on")
    if asked or metric.value not in metric_registry:
        yield metric.start_mark.line + 1, f"metric {metric.value}, which the library evaluate fetches and runs"


def _nodes(tree: yaml.Node) -> Iterator[yaml.Node]:
    """Every node of a document once, aliases too."""
    left, seen = [tree], set()
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            left += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value


def _is_lm_evals(path: Path) -> bool:
    import lm_eval

    return path.is_relative_to(Path(str(lm_eval.__file__)).resolve().parent)
