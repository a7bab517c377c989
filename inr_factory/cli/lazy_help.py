"""Signatures: what a verb takes, read from its source, so that help and completion need none of its libraries."""

import ast
import builtins
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

# Modules that the options of a verb are made from; they load in half a second, where torch alone takes three.
LIGHT = ("collections.abc", "pathlib", "typing", "typer", "inr_factory.cli.shared_options")
UNCALLED = ("callback", "parser")


def signature_of(room: str, verb: str, parameters: bool = True) -> Callable[..., None]:
    """A function with the parameters and the docstring of a verb of inr_factory/commands/ROOM.py, that does nothing.

    Without `parameters` it has the docstring alone, for which nothing is loaded. Callbacks and parsers, which neither help
    nor completion calls, stand for None. Where the parameters need anything else of other modules than LIGHT, the room
    is loaded and the verb itself is given.
    """
    body = ast.parse(Path(__file__).with_name(f"{room}.py").read_text(encoding="utf-8")).body
    function = next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == verb)
    function.body = function.body[:1]  # the docstring
    if not parameters:
        function.args, body = ast.arguments([], [], None, [], [], None, []), []
    known = dict(_light_imports(body))
    needed = _names(function.args)
    aliases = [node for node in body if isinstance(node, ast.Assign) and needed & _targets(node)]
    for node in aliases:
        needed |= _names(node.value)
    defined = known.keys() | vars(builtins).keys() | {name for node in aliases for name in _targets(node)}
    parts = [part for node in (function.args, *aliases) for part in ast.walk(node)]
    calls = [part.value for part in parts if isinstance(part, ast.keyword) and part.arg in UNCALLED]
    uncalled = {name for call in calls for name in _names(call)} - defined
    if needed - defined - uncalled:
        return getattr(import_module(f"inr_factory.cli.commands.{room}"), verb)  # type: ignore[no-any-return]
    known |= dict.fromkeys(uncalled)
    exec(compile(ast.Module([*aliases, function], []), f"{room}.{verb}", "exec"), known)
    return known[verb]  # type: ignore[no-any-return]


def _light_imports(body: list[ast.stmt]) -> Iterator[tuple[str, Any]]:
    """(name, what it stands for) of all that a room imports from the light modules."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((alias.name, import_module(alias.name)) for alias in node.names if alias.name in LIGHT)
        elif isinstance(node, ast.ImportFrom) and node.module in LIGHT:
            module = import_module(node.module)
            yield from ((alias.asname or alias.name, getattr(module, alias.name)) for alias in node.names)


def _names(node: ast.AST) -> set[str]:
    """All names that an expression reads."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}


def _targets(node: ast.Assign) -> set[str]:
    return {target.id for target in node.targets if isinstance(target, ast.Name)}
