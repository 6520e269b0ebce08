"""Show a plan in the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from smaug_eval.common.served.budget import Estimate, Tokens
from smaug_eval.planning.plans import MachinePlan, RecipePlan, RequestPlan

_GB = 1e9


def plan_tables(plan: RecipePlan) -> RenderableType:
    """Model and pairs, a table for each machine with what does not fit below it, and the assumptions."""
    return Group(
        Text(_heading(plan)),
        *(part for machine in plan.machines for part in (_table(machine), _memory(machine), Text(_verdict(machine)))),
        *([Text("\n".join(["Requests to served models:", *map(_request_line, plan.requests)]))] * bool(plan.requests)),
        Text("\n".join(["The figures rest on this:", *(f"- {line}" for line in plan.assumptions)])),
    )


def _request_line(plan: RequestPlan) -> str:
    return f"- {plan.name}: {Estimate(plan.calls, Tokens(plan.read, plan.written), plan.cost).describe()}"


def _heading(plan: RecipePlan) -> str:
    if not plan.machines:
        return f"{plan.recipe}: {plan.model}, which a server runs"
    stored = "" if plan.stored is None else f", stored as {plan.stored}"
    lines = [f"{plan.recipe}: {plan.model}, {plan.parameters:,} weights{stored}", f"configuration: {plan.model_source}"]
    lines += [
        f"{name}: {count:,} weights trained ({count / plan.parameters:.2%})" for name, count in plan.trained.items()
    ]
    for name, figures in plan.pairs.items():
        what = "single completions " * (figures["unpaired"] == 1)
        lines.append(
            f"pairs {name}: {figures['pairs']:,} {what}".rstrip()
            + f"; mean tokens: prompt {figures['prompt']:.0f}, common beginning "
            f"{figures['common']:.0f}, rest of chosen {figures['chosen']:.0f}, of rejected {figures['rejected']:.0f}"
        )
        lines.append(f"  {figures['source']}")
    return "\n".join(lines)


def _table(machine: MachinePlan) -> Table:
    table = Table(title=f"\n{machine.machine}", title_justify="left", box=None, pad_edge=False)
    table.add_column("stage", overflow="fold")  # gives way before the figures do
    for title in ("GPUs", "steps", "M tokens", "unshared", "hours", "unshared", "share", "GB"):
        table.add_column(title, justify="right", no_wrap=True)
    for stage in machine.stages:
        table.add_row(
            Text(stage.name),
            str(stage.gpus),
            "" if stage.steps is None else f"{stage.steps:,}",
            f"{stage.tokens / 1e6:,.2f}",
            f"{stage.tokens_unshared / 1e6:,.2f}",
            f"{stage.hours:,.2f}",
            f"{stage.hours_unshared:,.2f}",
            f"{stage.share:.0%}",
            Text(f"{stage.memory_total / _GB:,.1f}", style="" if stage.fits else "red"),
        )
    table.add_row("all", "", "", "", "", f"{machine.hours:,.2f}", f"{machine.hours_unshared:,.2f}", "100%")
    return table


def _memory(machine: MachinePlan) -> Table:
    """What each stage's memory of a GPU is made of, in GB."""
    table = Table(title="\nGB of each GPU", title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column("stage", no_wrap=True, overflow="fold")
    table.add_column("parts", overflow="fold")
    for stage in machine.stages:
        parts = ", ".join(f"{name} {size / _GB:,.1f}" for name, size in stage.memory.items() if size)
        table.add_row(Text(stage.name), parts)
    return table


def _verdict(machine: MachinePlan) -> str:
    if machine.fits:
        return f"Everything fits: {machine.usable / _GB:,.1f} GB of each GPU may be filled."
    lines = []
    for stage in machine.stages:
        if not stage.fits:
            lines.append(f"{stage.name} does not fit: {'; '.join(stage.problems)}")
            lines += [f"  change: {change}" for change in stage.changes]
    return "\n".join(lines)
