"""The checks of types and axis names in the tests, in half the time of jaxtyping's own decorator.

`jaxtyping.jaxtyped` checks the parameters of each call twice, and binds them to their names for its messages. Here
beartype checks parameters and result once, and jaxtyping remembers the sizes of the axes from one to the other.
"""

import dataclasses
import inspect
from functools import partial, update_wrapper
from types import FunctionType
from typing import Any, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

REFUSAL = BeartypeConf(violation_type=TypeError)  # as Python itself raises it
AXES = jaxtyping.jaxtyped("context")  # has no state: the sizes belong to the thread


def jaxtyped(fn: Any = None, *, typechecker: Any) -> Any:
    """Return a function, or a dataclass, whose types and axes are checked when it is called."""
    if fn is None:
        return partial(jaxtyped, typechecker=typechecker)
    if inspect.isclass(fn):
        if dataclasses.is_dataclass(fn) and "__init__" in vars(fn):
            fn.__init__ = jaxtyped(fn.__init__, typechecker=typechecker)
        return fn
    known = FunctionType(fn.__code__, fn.__globals__, fn.__name__, fn.__defaults__, fn.__closure__)
    known.__kwdefaults__, known.__qualname__, known.__module__ = fn.__kwdefaults__, fn.__qualname__, fn.__module__
    known.__annotations__ = {name: _hint(hint, fn.__globals__) for name, hint in fn.__annotations__.items()}
    checked = update_wrapper(beartype(known, conf=REFUSAL), fn)
    if "jaxtyping" not in str(known.__annotations__):
        return checked

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with AXES:
            return checked(*args, **kwargs)

    return update_wrapper(wrapped, fn)


def _hint(hint: Any, names: dict[str, Any]) -> Any:
    """The type of an annotation; Any if it names what is imported for mypy only, or later."""

    def example(value: hint) -> None: ...

    try:
        return get_type_hints(example, names, include_extras=True)["value"]
    except NameError:
        return Any


def install() -> None:
    """Check all of regard, which must not be imported yet."""
    jaxtyping.install_import_hook("regard", "beartype.beartype")
    jaxtyping.jaxtyped = jaxtyped  # what the hook decorates each function with
