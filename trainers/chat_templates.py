"""Provide chat templates by name, for models that have none, and read others from files."""

from __future__ import annotations

from pathlib import Path

from smaug_eval.common.errors import SmaugError

_CHATML = """{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""
_ZEPHYR = """{%- for message in messages -%}
{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif -%}
"""
_LLAMA_3 = """{{- bos_token }}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif -%}
"""
_ALPACA = """{%- for message in messages -%}
{%- if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}
{%- elif message['role'] == 'user' %}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}
{%- elif message['role'] == 'assistant' %}{{ '### Response:\\n' + message['content'] + eos_token + '\\n\\n' }}
{%- else %}{{ raise_exception('alpaca knows system, user and assistant') }}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '### Response:\\n' }}{% endif -%}
"""

TEMPLATES = {"chatml": _CHATML, "zephyr": _ZEPHYR, "llama-3": _LLAMA_3, "alpaca": _ALPACA}
"""Jinja templates by name; their special tokens are those of the tokenizer, or plain text where it has none."""
LONGEST = 1 << 20


def template_text(name: str) -> str:
    """Return a chat template by its name or from a file.

    Raises:
        SmaugError: there is none, the file cannot be read, or it is no Jinja template.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    path = Path(name)
    if not path.is_file():
        raise SmaugError(
            f"chat_template {name!r}: no such file",
            fix=f"give the path of a Jinja template, or one of {', '.join(TEMPLATES)}",
        )
    try:
        if path.stat().st_size > LONGEST:
            raise SmaugError(f"chat_template {name}: longer than {LONGEST:,} bytes", fix="give a Jinja template")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SmaugError(f"chat_template {name} cannot be read: {error}", fix="save it as UTF-8 text") from error
    _check(name, text)
    return text


def _check(name: str, text: str) -> None:
    from jinja2 import TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"]).parse(
            text.replace("{% generation %}", "").replace("{% endgeneration %}", "")
        )
    except TemplateSyntaxError as error:
        raise SmaugError(
            f"chat_template {name}, line {error.lineno}: {error.message}", fix="correct the template"
        ) from error
