"""Report what stands out in the encoding of pairs: what was cut, left out, merged or passed over, and how often."""

from __future__ import annotations

from dataclasses import dataclass

from smaug_eval.trainers.pairs.pair import reasons_of
from smaug_eval.trainers.tokenization import EncodedPairs

WARNED = 0.01
"""Share of the pairs above which a remark is a warning, which stands on the report."""


@dataclass(frozen=True)
class Remark:
    """Hold one sentence on the encoding of pairs.

    Attributes:
        text: The sentence, with how many pairs it is true of.
        is_warning: Whether a reader of the results must know.
    """

    text: str
    is_warning: bool


def remarks(encoded: EncodedPairs, what: str, *, asked: int, used: int) -> list[Remark]:
    """Return the sentences on the encoding of some pairs; none where nothing stands out.

    Args:
        encoded: The pairs.
        what: What to call them, such as ``training pairs``.
        asked: The ``max_length`` that was requested.
        used: The one that was applied: a model's context may be shorter, and pairs cut to that are always a warning.
    """
    kept = len(encoded.pairs)
    rows = kept + encoded.dropped.total()
    limit = f"max_length is {asked}" + ("" if used == asked else f", but the model's context holds {used} tokens")
    cut = f"were cut (prompts: {encoded.truncated_prompts:,}, completions: {encoded.truncated_completions:,}; {limit})"
    if encoded.cut_systems:
        cut += f"; the system's turn did not fit in {encoded.cut_systems:,}"
    found = [
        (encoded.truncated, kept, cut),
        (encoded.dropped.total(), rows, f"were left out: {reasons_of(dict(sorted(encoded.dropped.items())))}"),
        (
            encoded.merged,
            kept,
            "have a token that spans the border of prompt and completion: it is scored with the completion, with up to "
            f"{encoded.merged_characters} characters of the prompt",
        ),
        (
            encoded.reopened,
            kept,
            "have a prompt that ends before the opening of an answer: the chat template opens one otherwise than it "
            "writes one",
        ),
        (encoded.altered, kept, "have an answer of which the chat template leaves out or changes a part"),
    ]
    said = [
        Remark(f"{count:,} of {total:,} {what} {text}", count > WARNED * total or (text is cut and used != asked))
        for count, total, text in found
        if count
    ]
    if encoded.unread:
        said.append(Remark(f"the chat template does not read, of the {what}: {', '.join(encoded.unread)}", False))
    return said
