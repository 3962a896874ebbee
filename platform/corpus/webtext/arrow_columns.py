"""Arrow's columns from values and numpy's arrays from columns, by their buffers.

`pyarrow.array`, `pyarrow.scalar` and `to_numpy` import pandas where it is installed: 40 MB of memory.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def make_column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A column of strings or integers of 64 bits; None is null."""
    valid = None if None not in values else np.array([value is not None for value in values])
    if pa.types.is_string(kind):
        data = [b"" if value is None else value.encode("utf-8") for value in values]
        ends = np.cumsum([0, *map(len, data)], dtype=np.int64)
        assert ends[-1] < 1 << 31, f"{ends[-1]:,} bytes of strings in {len(values)} rows"
        buffers = [pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(data))]
        return pa.Array.from_buffers(kind, len(values), [_bitmap(valid), *buffers])
    known = values if valid is None else [0 if value is None else value for value in values]
    number = np.uint64 if pa.types.is_unsigned_integer(kind) else np.int64
    return wrap_integers(np.array(known, dtype=number), valid)


def wrap_integers(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """A column of an array of 64-bit integers, without copying it; null where it is not valid."""
    kind = pa.uint64() if values.dtype == np.uint64 else pa.int64()
    return pa.Array.from_buffers(kind, len(values), [_bitmap(valid), pa.py_buffer(np.ascontiguousarray(values))])


def read_integers(column: pa.Array | pa.ChunkedArray, null: int = 0) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """The values of a column of 64-bit integers, with a value in place of null, and which are valid."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    number = np.uint64 if pa.types.is_unsigned_integer(whole.type) else np.int64
    bits, data = whole.buffers()
    values = np.frombuffer(data, dtype=number, count=len(whole), offset=8 * whole.offset)
    if not whole.null_count:
        return values, np.ones(len(values), dtype=bool)
    valid = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little")[whole.offset :][: len(whole)] == 1
    return np.where(valid, values, null), valid


def _bitmap(valid: npt.NDArray[np.bool_] | None) -> pa.Buffer | None:
    return None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
