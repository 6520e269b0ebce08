"""Show a diagnosis in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

SHOWN_OFFSETS = (-16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16, 32)
REGIONS = ("before", "at", "after")
_BUCKET_COLUMNS = {
    "log_prob_chosen": "log p chosen",
    "log_prob_rejected": "log p rejected",
    "ranked_first": "chosen first",
    "ches_normalised": "CHES (norm.)",
    "log_ratio_chosen": "change chosen",
    "log_ratio_rejected": "change rejected",
    "below_reference": "below reference",
}
_SHARES = ("ranked_first", "below_reference")


def diagnosis_tables(found: Mapping[str, Any]) -> RenderableType:
    """Return what :func:`smaug_eval.diagnose` returned, as tables under short headings."""
    parts: list[RenderableType] = [Text(_heading(found)), _sides(found), Text(_lines(found))]
    parts += [_profile(found["profile"]), _buckets(found["buckets"])]
    if found["ches"]:
        parts.append(_highest(found["ches"]))
    if found["warning"]:
        parts.append(Text(f"warning: {found['warning']}", style="yellow"))
    return Group(*parts)


def _heading(found: Mapping[str, Any]) -> str:
    pairs = found["pairs"]
    against = f" against {found['reference']['source']}" if found["reference"] else ""
    lines = [f"{found['model']['source']}{against} on {pairs['path']}: {pairs['scored']:,} of {pairs['rows']:,} rows"]
    if pairs["dropped"]:
        reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in pairs["dropped"].items())
        lines.append(f"left out: {reasons}")
    if pairs["truncated"]:
        lines.append(f"cut to the length limit: {pairs['truncated']:,} pairs")
    lines.append("log-probabilities in nats; before, at and after the first token that differs: per token")
    return "\n".join(lines)


def _sides(found: Mapping[str, Any]) -> Table:
    table = _table("", "per pair", "per token", *REGIONS)
    for label, block in (("log p", found["log_probs"]), ("change", found["changes"])):
        for side in ("chosen", "rejected") if block else ():
            values = block[side]
            regions = (_number(values[region]["mean"]) for region in REGIONS)
            error = f" ± {values['se']:.3f}" if values.get("se") is not None else ""
            table.add_row(
                f"{label} {side}", _number(values["per_pair"]) + error, _number(values["per_token"]), *regions
            )
    return table


def _lines(found: Mapping[str, Any]) -> str:
    scores, distance, cosine, ches = (found[name] for name in ("log_probs", "edit_distance", "gradient_cosine", "ches"))
    lines = [
        f"chosen ranked first: {scores['ranked_first']:.1%} of the pairs "
        f"(averaged over tokens {scores['ranked_first_averaged']:.1%})",
        f"edit distance in tokens: mean {distance['mean']:.1%}, median {distance['median']:.1%}",
    ]
    if found["changes"]:
        lines.append(f"chosen below the reference: {found['changes']['chosen']['below']:.1%} of the pairs")
    if cosine:
        lines.append(
            f"cosine of the gradients of chosen and rejected: mean {_number(cosine['mean'])} "
            f"over {len(cosine['each'])} pairs"
        )
    if ches:
        lines.append(
            f"CHES of {ches['of']}: mean {ches['score']['mean']:.4g}, normalised by length "
            f"{ches['normalised']['mean']:.4g} (the higher, the more a preference loss is expected to pull chosen down)"
        )
    if found["correlations"]:
        shown = ", ".join(f"{name.replace('_', ' ')} {_number(v)}" for name, v in found["correlations"].items())
        lines.append(f"rank correlation with the change of chosen: {shown}")
    return "\n".join(lines)


def _profile(profile: Mapping[str, Any]) -> Table:
    models = [name for name in ("reference", "model") if name in profile]
    table = _table("token from the edit", "pairs", *(f"log p chosen, {name}" for name in models))
    for offset in SHOWN_OFFSETS:
        index = profile["offsets"].index(offset)
        if profile["pairs"][index]:
            values = (_number(profile[name][index]) for name in models)
            table.add_row(f"{offset:+d}" if offset else "0", f"{profile['pairs'][index]:,}", *values)
    after = profile["after_edit"]
    table.add_row("all after it", f"{after['pairs']:,}", *(_number(after[name]) for name in models))
    return table


def _buckets(buckets: list[Mapping[str, Any]]) -> Table:
    columns = {name: label for name, label in _BUCKET_COLUMNS.items() if name in buckets[0]}
    table = _table("edit distance", "pairs", *columns.values())
    for bucket in buckets:
        values = (f"{bucket[name]:.1%}" if name in _SHARES else _number(bucket[name]) for name in columns)
        table.add_row(bucket["bucket"], f"{bucket['pairs']:,}", *values)
    return table


def _highest(ches: Mapping[str, Any]) -> Table:
    table = Table("highest CHES (norm.)", "end of the prompt | chosen", box=None, pad_edge=False)
    for row in ches["highest_normalised"]:
        table.add_row(f"{row['normalised']:.4g}", Text(row["text"], no_wrap=True, overflow="ellipsis"))
    return table


def _table(first: str, *numbers: str) -> Table:
    table = Table(first, box=None, pad_edge=False)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
