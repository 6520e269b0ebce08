"""Find code that the YAML of lm-eval's tasks would run, and refuse that of a user's folder unless the recipe trusts it.

What runs code: ``!function`` (a file beside the YAML, or any module), metrics that the library ``evaluate`` fetches
from the Hub, and pickled data. Templates are text, but Jinja can reach Python objects from them; they are rendered in
Jinja's sandbox, lm-eval's own too. ``!function`` in lm-eval's own files is code of the installed package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.lm_eval.task_index import members_of

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

SWITCH = "trust_task_code"
FUNCTION = "!function"
_PICKLED = ("pandas",)
"""Builders of ``datasets`` that unpickle."""
_NAMED = 3


@dataclass(frozen=True)
class Definition:
    """Hold the files that define a task or group.

    Attributes:
        files: YAML files, those that they include and, beside a file with functions, the Python files.
        code: What of a user's folder would run; empty where nothing would.
    """

    files: tuple[Path, ...]
    code: tuple[str, ...]

    def sha256(self) -> str:
        """Return one hash over names and bytes of the files, whatever folder they are in."""
        digest = hashlib.sha256()
        for content in sorted((file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in self.files):
            digest.update(repr(content).encode())
        return digest.hexdigest()


def read_definition(name: str, manager: TaskManager) -> Definition:
    """Return the files that define a task or group, its members included.

    Raises:
        SmaugError: a file cannot be read, or is no YAML.
    """
    files: dict[Path, None] = {}
    for path in _paths_of(name, manager, set()):
        for file in _included(path, ()):
            files[file] = None
    code: list[str] = []
    scripts: dict[Path, None] = {}
    for file in files:
        found = _code_of(file)
        if found:
            scripts |= dict.fromkeys(sorted(file.parent.rglob("*.py")) if not _is_lm_evals(file) else _beside(file))
        if not _is_lm_evals(file):
            code += [f"{file}, line {line}: {what}" for line, what in found]
    return Definition((*files, *scripts), tuple(code))


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
    for file in definition.files:
        unsafe = _keys(_tree(file)).get("unsafe_code") if file.suffix != ".py" else None
        if isinstance(unsafe, yaml.ScalarNode) and str(unsafe.value).lower() in ("true", "yes", "on"):
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


def unreadable_files(folder: Path) -> list[str]:
    """Return which YAML files of a folder lm-eval cannot read, each with the reason: it leaves them out in silence."""
    found = []
    for path in sorted(folder.rglob("*.yaml")):
        try:
            _included(path.resolve(), ())
        except SmaugError as error:
            found.append(error.message)
    return found


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


def _paths_of(name: str, manager: TaskManager, seen: set[str]) -> Iterator[Path]:
    """The YAML files of a name and of everything that it names."""
    entry = manager.task_index.get(name)
    if entry is None or name in seen:
        return
    seen.add(name)
    if entry.yaml_path is not None:
        yield Path(entry.yaml_path).resolve()
    for member in members_of(entry):
        yield from _paths_of(member, manager, seen)


def _included(path: Path, above: tuple[Path, ...]) -> list[Path]:
    """A YAML file and all that it includes."""
    if path in above:
        raise SmaugError(f"{path} includes itself", fix="remove the include")
    tree = _tree(path)
    found = [path]
    for key, value in tree.value if isinstance(tree, yaml.MappingNode) else ():
        if key.value == "include":
            names = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for each in names:
                found += _included((path.parent / str(each.value)).resolve(), (*above, path))
    return list(dict.fromkeys(found))


@lru_cache(maxsize=4096)
def _tree(path: Path) -> yaml.Node | None:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with path.open("rb") as file:
            tree: yaml.Node | None = yaml.compose(file, Loader=loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise SmaugError(f"{path}, line {line}: not valid YAML: {error.problem}", fix="correct that line") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SmaugError(f"{path}: not valid YAML: {error}", fix="correct it") from error
    except OSError as error:
        raise SmaugError(f"{path} cannot be read: {error.strerror or error}", fix="correct the include") from error
    if not isinstance(tree, yaml.MappingNode):
        raise SmaugError(f"{path}: not a mapping of keys", fix="write a task or group as lm-eval's guide shows")
    return tree


def _code_of(path: Path) -> list[tuple[int, str]]:
    """Line and kind of everything in a YAML file that runs code."""
    found: list[tuple[int, str]] = []
    for node in _nodes(_tree(path)):
        if node.tag == FUNCTION:
            found.append((node.start_mark.line + 1, f"{FUNCTION} {node.value}"))
        keys = _keys(node)
        data = keys.get("dataset_path")
        if isinstance(data, yaml.ScalarNode) and data.value in _PICKLED:
            found.append((data.start_mark.line + 1, f"dataset_path {data.value}, which unpickles its files"))
        metrics = keys.get("metric_list")
        for metric in metrics.value if isinstance(metrics, yaml.SequenceNode) else ():
            found += _fetched(_keys(metric))
    return sorted(found)


def _keys(node: yaml.Node | None) -> dict[Any, yaml.Node]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return {key.value: value for key, value in pairs if isinstance(key, yaml.ScalarNode)}


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


def _nodes(tree: yaml.Node | None) -> Iterator[yaml.Node]:
    """Every node of a document once, aliases too."""
    left, seen = [tree] if tree is not None else [], set()
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


def _beside(file: Path) -> Iterable[Path]:
    return sorted(file.parent.glob("*.py"))


def _is_lm_evals(path: Path) -> bool:
    import lm_eval

    return path.is_relative_to(Path(str(lm_eval.__file__)).resolve().parent)
