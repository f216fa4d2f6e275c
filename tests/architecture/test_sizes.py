"""Files and functions stay small enough to be read at one sitting."""

from __future__ import annotations

import ast

FILE_WALL = 600
FILE_AIM = 300
FUNCTION_WALL = 80
PARAMETERS = 8


def test_no_file_passes_the_wall(code, complain) -> None:
    sizes = {source.name: source.text.count("\n") + 1 for source in code}
    over = [f"{name}: {lines} lines, the wall is {FILE_WALL}" for name, lines in sizes.items() if lines > FILE_WALL]
    near = [f"  {name}: {lines}" for name, lines in sizes.items() if FILE_AIM < lines <= FILE_WALL]
    if over:
        complain([*over, "Look for what the file should not know, and move that out. Next in line:", *near])


def test_no_function_passes_the_wall(code, complain) -> None:
    long = [
        source.at(function.lineno, f"{function.name} has {lines} lines, the wall is {FUNCTION_WALL}: name its parts")
        for source in code
        for function in source.functions()
        if (lines := function.end_lineno - function.lineno + 1) > FUNCTION_WALL
    ]
    complain(long)


def test_no_function_takes_more_than_can_be_kept_in_mind(code, complain) -> None:
    crowded = [
        source.at(function.lineno, f"{function.name} takes {count} parameters, at most {PARAMETERS}: pass one value")
        for source in code
        for function in source.functions()
        if (count := _parameters(function.args)) > PARAMETERS
    ]
    complain(crowded)


def _parameters(arguments: ast.arguments) -> int:
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([argument for argument in named if argument.arg not in ("self", "cls")])
