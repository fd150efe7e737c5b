"""The group of commands, and how the values of its options are read. Reads nothing but the words that were given."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from typer.core import TyperArgument, TyperGroup, TyperOption

if TYPE_CHECKING:
    from typer._click.core import Command, Context, Parameter

_UNREAD: Final = object()
"""What `_read_value` returns where typer itself has to read, or to refuse, the value."""


class PlainGroup(TyperGroup):
    """A group whose options read texts, whole numbers and paths themselves.

    typer builds a validator of pydantic for each of them, given or not, and importing that library takes longer than
    all the rest of `trade --status`. What is no such value typer reads, so that its words for what is wrong stay.
    """

    def get_params(self, ctx: "Context") -> "list[Parameter]":
        """Return the group's own options."""
        return _read_plainly(super().get_params(ctx))

    def get_command(self, ctx: "Context", cmd_name: str) -> "Command | None":
        """Return the command of that name, or None."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _read_plainly(command.get_params(ctx))
        return command


class _PlainOption(TyperOption):
    def process_value(self, ctx: "Context", value: object) -> object:
        plain = _read_value(self, value)
        if plain is _UNREAD:
            return super().process_value(ctx, value)
        return plain if self.callback is None else self.callback(ctx, self, plain)


class _PlainArgument(TyperArgument):
    def process_value(self, ctx: "Context", value: object) -> object:
        plain = _read_value(self, value)
        return super().process_value(ctx, value) if plain is _UNREAD else plain


def _read_plainly(parameters: "list[Parameter]") -> "list[Parameter]":
    """Let `parameters` read their own values, and return them: typer makes them, and takes no class for them."""
    for parameter in parameters:
        if type(parameter) is TyperOption:
            parameter.__class__ = _PlainOption
        elif type(parameter) is TyperArgument:
            parameter.__class__ = _PlainArgument
    return parameters


def _read_value(parameter: TyperOption | TyperArgument, value: object) -> object:
    """Return `value` as the type of `parameter`, or `_UNREAD`: only what can be read in one way is read here."""
    kind = parameter.type_descriptor.annotation
    bounds = parameter.type_descriptor.parameter_info
    if value is None or value == ():
        return _UNREAD if parameter.required else value
    if kind == list[str] and isinstance(value, tuple):
        return list(value)
    if kind is str and isinstance(value, str):
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is int and isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    if kind is int and type(value) is int:
        low, high = bounds.min, bounds.max
        return value if (low is None or value >= low) and (high is None or value <= high) else _UNREAD
    return _UNREAD
