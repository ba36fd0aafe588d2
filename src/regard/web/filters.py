"""Translate filters of a request to a condition in SQL. Names are checked against the columns, and values quoted."""

import math
from collections.abc import Mapping, Sequence

from regard.files import InputError, nearest
from regard.web.schemas import Filter, Scalar

EXPECTED = {"integer": "an integer", "number": "a number", "text": "a text", "texts": "a text"}


def condition(filters: Sequence[Filter], columns: Mapping[str, str]) -> str:
    """Return the SQL condition that all filters hold; "" without filters.

    `columns` are the columns that may be used, with their types as in `Index.columns`. Raises InputError for another
    column, an operator that the column does not have, and a value of another type.
    """
    return " AND ".join(_condition_of(filter_, columns) for filter_ in filters)


def _condition_of(filter_: Filter, columns: Mapping[str, str]) -> str:
    name, op, value = filter_.column, filter_.op, filter_.value
    if name not in columns:
        known = nearest(name, columns) if columns else "No column is exposed: start the server with --expose COLUMN."
        raise InputError(f"There is no column {name!r} to filter by. {known}")
    kind, column = columns[name], "`" + name.replace("`", "``") + "`"
    if isinstance(value, list) != (op == "in") or value == []:
        raise InputError(f"The filter on {name!r}: {op} needs {'a list of values' if op == 'in' else 'one value'}.")
    values = [_literal(each, kind, name) for each in (value if isinstance(value, list) else [value])]
    if op == "contains" and kind in ("text", "texts"):
        return f"array_has({column}, {values[0]})" if kind == "texts" else f"strpos({column}, {values[0]}) > 0"
    if op == "contains" or kind == "texts":
        raise InputError(f"The filter on {name!r}: the column is of type {kind}, which has no operator {op}.")
    return f"{column} IN ({', '.join(values)})" if op == "in" else f"{column} {op} {values[0]}"


def _literal(value: Scalar, kind: str, column: str) -> str:
    if isinstance(value, str) and kind in ("text", "texts"):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, int) and not isinstance(value, bool) and kind in ("integer", "number") and abs(value) < 2**63:
        return str(value)
    if isinstance(value, float) and math.isfinite(value) and kind == "number":
        return repr(value)
    raise InputError(f"The filter on {column!r} needs {EXPECTED[kind]}, got {value!r}.")
