"""What a directive may say: the fields of its JSON object, their bounds, and their errors.

The form is that of SEAL's few-shot experiments (arXiv 2506.10943, section 3.2 and appendix A:
data-generation tools and training settings), with two blocks more: `data`, finetuning texts, and
`layers`, the layers to update, which is the whole self-edit of SCoL (arXiv 2605.07076).
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
    field_validator,
)
from pydantic_core import PydanticCustomError

from seal_env.edits.training_data import clean

TOOLS = ("basic", "size", "chain", "repeat", "colors", "positions")
"""Data-generation tools that are known by name: SEAL's four, then two for one-row grids."""
LEAST_RATE, MOST_RATE = 1e-6, 1e-1
"""Bounds of the learning rate."""
MOST_EPOCHS = 64
"""Most passes over the data."""
MOST_TEXTS, LONGEST_TEXT = 64, 4096
"""Most texts under `data`, and the longest of them in characters."""
MOST_LAYERS = 1024
"""Layers that can be named as long as the model is not known."""

Strategy = Literal["train_using_output_tokens", "train_using_all_tokens"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
"""What is learned of a generated example: its answer, or all of it."""

TWICE = object()
"""Stands for the value of a key that an object has more than once."""


class _Block(BaseModel):
    """Takes values as they are written: no "2" for 2, no 2.0 for 2, no 1 for true."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TrainingBlock(_Block):
    """How to train."""

    strategy: Strategy
    learning_rate: float = Field(ge=LEAST_RATE, le=MOST_RATE)
    num_train_epochs: int = Field(ge=1, le=MOST_EPOCHS)


def _usable(value: object) -> object:
    return clean(value).strip() if isinstance(value, str) else value


Text = Annotated[
    str, BeforeValidator(_usable), StringConstraints(min_length=1, max_length=LONGEST_TEXT)
]


class DirectiveBlock(_Block):
    """A whole directive; `directive_model` adds what the tools and the layers may be."""

    data_generation: Any = None
    training: TrainingBlock | None = None
    data: list[Text] | None = Field(None, min_length=1, max_length=MOST_TEXTS)
    layers: list[int] | None = Field(None, min_length=1, max_length=MOST_LAYERS)

    @field_validator("*", mode="before")
    @classmethod
    def _no_null(cls, value: object) -> object:
        if value is None:
            raise PydanticCustomError("null", "null is no value; leave the field out")
        return value


FIELDS = tuple(DirectiveBlock.model_fields)
"""The blocks of a directive; an object that has one of them is read as one."""


def tool_key(tool: str) -> str:
    """The name of the field that switches a tool on or off."""
    return f"use_{tool}_augmentations"


def directive_model(
    tools: Sequence[str], required: bool, layers: int | None
) -> type[DirectiveBlock]:
    """The model of a directive for some tools and a learner.

    Args:
        tools: The tools that there are.
        required: Whether each has to be switched on or off; otherwise one left out is off.
        layers: How many layers the learner has; None if it is not known.
    """
    default = ... if required else False
    switches: dict[str, Any] = {tool_key(tool): (bool, default) for tool in tools}
    generation = create_model("GenerationBlock", __base__=_Block, **switches)
    last = (MOST_LAYERS if layers is None else layers) - 1
    layer = Annotated[int, Field(ge=0, le=last)]
    listed = Field(None, min_length=1, max_length=MOST_LAYERS)
    fields: dict[str, Any] = {
        "data_generation": (generation | None, None),
        "layers": (list[layer] | None, listed),
    }
    return create_model("Directive", __base__=DirectiveBlock, **fields)


def directive_pattern(tools: Sequence[str]) -> str:
    """A regular expression of directives, every one of which is read without an error.

    These are SEAL's two blocks, with the fields in their order. Python's `re` and Rust's `regex`
    read it alike.

    Args:
        tools: The tools that there are; each is switched on or off.
    """
    gap = r"[ \n]{0,5}"

    def block(fields: Mapping[str, str]) -> str:
        listed = [f'"{name}"{gap}:{gap}{value}' for name, value in fields.items()]
        return rf"\{{{gap}" + f"{gap},{gap}".join(listed) + rf"{gap}\}}"

    low, high = (round(-math.log10(rate)) for rate in (LEAST_RATE, MOST_RATE))
    rates = (
        rf"[1-9](\.[0-9]{{1,3}})?e-0?[{high + 1}-{low}]|1e-0?{high}"
        rf"|0\.0{{{high},{low - 1}}}[1-9][0-9]{{0,3}}|0\.0{{{high - 1}}}1"
    )
    training = {
        "strategy": f'"({"|".join(STRATEGIES)})"',
        "learning_rate": f"({rates})",
        "num_train_epochs": f"({'|'.join(map(str, range(1, MOST_EPOCHS + 1)))})",
    }
    switches = block({tool_key(tool): "(true|false)" for tool in tools})
    return gap + block({"data_generation": switches, "training": block(training)}) + gap


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One thing that is wrong, in one line that begins with the field's name.

    What is missing comes last: it may be there, but misspelt.
    """
    wrong = error.errors(include_url=False)
    first = min(wrong, key=lambda one: one["type"] == "missing")
    path = first["loc"]
    field = ".".join(_name(part) for part in path)
    if first["input"] is TWICE:
        return f"{field}: is given more than once"
    if first["type"] == "missing":
        return f"{field}: is missing"
    if first["type"] == "extra_forbidden":
        return f"{field}: is unknown; known: {', '.join(_known(model, path[:-1])) or 'none'}"
    if first["type"].endswith(("too_short", "too_long")):
        unit = "characters" if isinstance(first["input"], str) else "items"
        bounds = {name: bound for name, bound in first["ctx"].items() if name in _BOUNDS}
        allowed = ", ".join(f"{_BOUNDS[name]} {bound}" for name, bound in bounds.items())
        return f"{field}: has {first['ctx']['actual_length']} {unit}; allowed: {allowed}"
    if first["type"] == "model_type":
        return f"{field}: should be a JSON object"
    reason = first["msg"].removeprefix("Input ")
    if isinstance(first["input"], str | int | float):
        reason += f", not {_REPR.repr(first['input'])}"
    return f"{field}: {reason}"


class _Ascii(reprlib.Repr):
    """Short and in one line, whatever it is."""

    def repr_str(self, x: str, level: int) -> str:
        shown = ascii(x[: self.maxstring])
        return shown if len(x) <= self.maxstring else f"{shown}..."


_REPR = _Ascii()
_BOUNDS = {"min_length": "at least", "max_length": "at most"}


def _name(part: int | str) -> str:
    """A part of a field's name; what a policy made up may be anything."""
    plain = isinstance(part, int) or (part.isidentifier() and part.isascii() and len(part) < 60)
    return str(part) if plain else _REPR.repr(part)


def _known(model: type[BaseModel], path: Iterable[int | str]) -> list[str]:
    """The fields that there are where a path leads."""
    fields: Mapping[str, Any] = model.model_fields
    for part in path:
        blocks = [kind for kind in get_args(fields[str(part)].annotation) if kind is not type(None)]
        fields = blocks[0].model_fields
    return list(fields)
