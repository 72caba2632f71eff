"""Laws of frames and arrays: equal content has equal bytes, and what comes back is what went in."""

import asyncio
import datetime as dt
import io
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from firmplan import Columns, ConfigError, Engine, InputRejected, Shape, ToolError, check, tool
from firmplan.tools.codecs import frames
from firmplan.tools.codecs.codec import decode, encode, find_codec
from firmplan.tools.codecs.preview import CELL_MAX, COLUMNS_MAX, preview_of
from numpy.typing import NDArray
from pyarrow import feather
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict


def _bytes(value):
    return encode(find_codec(type(value)), value).data


def _back(value, kind=None):
    return decode(find_codec(kind or type(value)), _bytes(value))


def _wide():
    frame = pd.DataFrame(
        {
            "i": [1, 2, 3],
            "f": [1.5, np.nan, 2.0],
            "s": ["x", None, "z"],
            "b": [True, False, True],
            "c": pd.Categorical(["u", "v", "u"], categories=["v", "u", "w"]),
            "d": pd.to_datetime(["2026-01-01"] * 3),
            "z": pd.to_datetime(["2026-01-01"] * 3).tz_localize("UTC"),
            "n": pd.array([1, None, 3], dtype="Int64"),
            "t": pd.to_timedelta([1, 2, 3], unit="s"),
            "o": pd.Series([dt.date(2026, 1, 1)] * 3, dtype=object),
            "m": pd.Series([Decimal("1.5")] * 3, dtype=object),
            "l": pd.Series([True, None, False], dtype=object),
        }
    )
    frame.index = pd.Index([5, 6, 7], name="k")
    return frame


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(3),
        pd.RangeIndex(1, 4),
        pd.Index([7, 8, 9]),
        pd.Index(["a", "b", "c"], name="key"),
        pd.MultiIndex.from_tuples([(1, "a"), (2, "b"), (3, "c")]),
        pd.DatetimeIndex(["2026-01-01", "2026-01-05", "2026-01-06"]),
    ],
)
def test_a_pandas_frame_comes_back_with_its_dtypes_and_its_index(index):
    """Also without rows or columns; and the bytes of what came back are the same."""
    frame = _wide().set_axis(index)
    for each in (frame, frame.iloc[:0]):
        back = _back(each)
        pd.testing.assert_frame_equal(back, each)
        assert _bytes(back) == _bytes(each)


@pytest.mark.parametrize(
    "value",
    [
        pd.Series([1, 2]),
        pd.Series([1, 2], name="x"),
        pd.Series(["a"], index=["z"], name=0),
        pd.Series([], dtype="float64"),
    ],
)
def test_a_series_comes_back_with_its_name(value):
    """A name that is missing stays missing."""
    pd.testing.assert_series_equal(_back(value), value)


def test_equal_frames_of_pandas_have_equal_bytes():
    """Copies, slices and joined parts of a frame are one value to the store."""
    frame = _wide()
    assert _bytes(frame) == _bytes(frame.copy())
    assert _bytes(frame.iloc[1:]) == _bytes(frame.iloc[1:].copy())
    assert _bytes(frame) == _bytes(pd.concat([frame.iloc[:1], frame.iloc[1:]]).astype(frame.dtypes))
    assert b"creator" not in _bytes(frame)


def _nested():
    return pl.DataFrame(
        {
            "a": [1, None, 3],
            "s": ["x", None, "zz"],
            "l": [[1, 2], None, [3]],
            "st": [{"a": 1, "b": "x"}, None, {"a": None, "b": "z"}],
            "c": pl.Series(["q", "r", "q"]).cast(pl.Categorical),
            "e": pl.Series(["q", "r", "q"]).cast(pl.Enum(["r", "q"])),
            "b": [True, None, False],
            "d": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)] * 3,
        }
    )


def test_equal_frames_of_polars_have_equal_bytes():
    """Chunks, offsets and the order in which the process has met the categories do not count."""
    frame = _nested()
    back = _back(frame)
    assert back.equals(frame)
    assert back.schema == frame.schema
    data = _bytes(frame)
    assert _bytes(back) == data
    pl.Series(["zzz", "r", "aaa", "q"]).cast(pl.Categorical)
    assert _bytes(_nested()) == data
    assert _bytes(pl.concat([frame[:1], frame[1:]], rechunk=False)) == data
    assert _bytes(pl.concat([frame, frame, frame])[3:6]) == data


def test_what_lies_in_the_slots_of_nulls_does_not_count():
    """Arrow leaves these bytes open; here they are empty, also inside structs, and so is the rest of a byte of booleans."""
    hidden = pa.Array.from_buffers(pa.int64(), 3, [pa.py_buffer(b"\x05"), pa.py_buffer(np.array([1, 99, 3]))])
    assert _bytes(pa.table({"a": hidden})) == _bytes(pa.table({"a": pa.array([1, None, 3])}))
    mask = pa.array([False, True, False])
    first, second = (
        pa.StructArray.from_arrays([pa.array(x)], ["x"], mask=mask) for x in ([1, 77, 3], [1, None, 3])
    )
    assert _bytes(pa.table({"a": first})) == _bytes(pa.table({"a": second}))
    bits = pa.array([True, False, True, True, False] * 3)
    assert _bytes(pa.table({"b": bits[3:6]})) == _bytes(pa.table({"b": pa.array([True, False, True])}))


def test_the_order_of_a_dictionary_without_an_order_does_not_count():
    """Tables with other chunks and other dictionaries, but equal values, have equal bytes."""
    chunks = [pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", "c"]).dictionary_encode()]
    whole = pa.table({"d": pa.array(["a", "b", "b", "c"]).dictionary_encode()})
    assert _bytes(pa.table({"d": pa.chunked_array(chunks)})) == _bytes(whole)
    assert _back(whole).equals(whole)
    batch = pa.RecordBatch.from_pydict({"a": [1, 2]})
    assert _back(batch).equals(batch)
    odd = pa.table({"m": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64()))})
    assert _back(odd).equals(odd)


def test_one_librarys_frame_is_read_by_another():
    """All are Arrow tables. An index of pandas without a name is no column; one with a name is."""
    frame = _wide()[["i", "s"]]
    assert _back(frame, pl.DataFrame).columns == ["i", "s", "k"]
    assert _back(frame.set_axis([7, 8, 9]), pl.DataFrame).columns == ["i", "s"]
    assert _back(_nested().select("a", "s"), pd.DataFrame)["s"].tolist()[2] == "zz"
    with pytest.raises(ToolError, match="expected a frame of one column for a Series, found 8: a, s, l"):
        _back(_nested(), pl.Series)


ARRAYS = [
    np.arange(6).reshape(2, 3),
    np.arange(6).reshape(2, 3).T,
    np.array(3.0),
    np.array(["a", "bb"]),
    np.array([1, 2], dtype=">i4"),
    np.array([(1, 2.5)], dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    np.array(["2026-01-01"], dtype="M8[D]"),
    np.zeros((0, 3)),
]


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: str(value.dtype))
def test_an_array_comes_back_with_shape_and_dtype(value):
    """It is the caller's own: it can be written to. Order in memory and byte order do not count."""
    back = _back(value)
    assert (back == value).all()
    assert back.shape == value.shape
    assert back.flags.writeable
    assert (
        _bytes(value)
        == _bytes(np.array(value, order="F"))
        == _bytes(value.astype(value.dtype.newbyteorder("=")))
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (pd.DataFrame({"o": [1, "x"]}), "expected columns of one type each"),
        (
            pd.DataFrame({"o": [{"a": 1}]}),
            "column 'o': expected a dtype of its own, or objects that are text",
        ),
        (pd.DataFrame({"o": pd.Series([1, None], dtype=object)}), "found objects that are int64"),
        (pd.DataFrame({"o": [object()]}), "expected columns of one type each"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "found 'a' twice"),
        (pd.DataFrame({1.5: [1]}), "expected columns named by text"),
        (pd.DataFrame({"x": [1 + 2j]}), "column x with type complex128"),
        (pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}), "found Python objects"),
        (pa.table([[1], [2]], names=["a", "a"]), "found 'a' twice"),
        (np.array([object()]), "found the dtype object"),
    ],
)
def test_what_has_no_bytes_without_pickle_is_refused(value, message):
    """The message names the column and what to do."""
    with pytest.raises(ToolError, match=message) as found:
        _bytes(value)
    assert "cannot be encoded" in str(found.value)


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame, np.ndarray])
def test_bytes_that_are_no_value_are_refused(kind):
    """Among them an array of pickled objects, and a table whose offsets lead out of its text."""
    table = _bytes(pa.table({"s": ["abc", "defg"]}))
    spoiled = table.replace(
        (3).to_bytes(4, "little") + (7).to_bytes(4, "little"),
        (3).to_bytes(4, "little") + (99).to_bytes(4, "little"),
    )
    pickled = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117)
        + b"\n"
        + b"cos\nsystem\n(S'true'\ntR."
    )
    for data in (b"", b"\x00" * 40, spoiled if kind is not np.ndarray else pickled, table[: len(table) // 2]):
        with pytest.raises(ToolError, match="cannot be decoded"):
            decode(find_codec(kind), data)


# --- in plans


@tool(effect="pure")
def load(n: int) -> Annotated[pd.DataFrame, Columns(city=str, price=float)]:
    """Load prices."""
    return pd.DataFrame({"city": ["a", "b"] * n, "price": [1.5, None] * n})


@tool(effect="pure")
async def clean(table: Annotated[pl.DataFrame, Columns(price=float)]) -> pl.DataFrame:
    """Drop rows without a price."""
    return table.drop_nulls()


@tool(effect="pure")
def prices(table: pa.Table) -> NDArray[np.float64]:
    """Return the prices."""
    return table.column("price").to_numpy()


@tool(effect="pure")
def mean(values: NDArray[np.float64]) -> float:
    """Return the mean."""
    values += 1  # the array is the call's own
    return values.mean() - 1


@dataclass
class Part:
    """A part of a table."""

    frame: pd.DataFrame
    count: int


class Report(BaseModel):
    """A table with a word."""

    frame: Annotated[pd.DataFrame, Columns()]
    word: str


class Both(TypedDict):
    """Two tables."""

    left: pd.DataFrame
    right: pd.DataFrame | None


@tool(effect="pure")
def cut(table: pd.DataFrame, other: pd.DataFrame | None = None) -> Part:
    """Cut a part; `int64` stands for an integer."""
    return Part(table, np.int64(len(table)))


@tool(effect="pure")
def report(part: Part) -> Report:
    """Report on a part."""
    return Report(frame=part.frame, word="ok")


@tool(effect="pure")
def pair(report: Report) -> Both:
    """Return the table twice, as one dict."""
    return {"left": report.frame, "right": None}


@tool(effect="pure")
def listed(both: Both) -> list[pd.DataFrame]:
    """Return a list of the table."""
    return [both["left"], both["left"]]


PLAN = {
    "firmplan": 1,
    "steps": [
        {"id": "t", "tool": "load", "args": {"n": 3}},
        {"id": "c", "tool": "clean", "args": {"table": "${t}"}},
        {"id": "p", "tool": "prices", "args": {"table": "${c}"}},
        {"id": "m", "tool": "mean", "args": {"values": "${p}"}},
        {"id": "x", "tool": "cut", "args": {"table": "${t}"}},
        {"id": "r", "tool": "report", "args": {"part": "${x}"}},
        {"id": "b", "tool": "pair", "args": {"report": "${r}"}},
        {"id": "l", "tool": "listed", "args": {"both": "${b}"}},
    ],
    "output": {
        "mean": "${m}",
        "rows": "${t.rows}",
        "columns": "${t.columns}",
        "dtype": "${t.dtypes.price}",
        "shape": "${p.shape}",
        "count": "${x.count}",
        "equal": "${l[0].digest == t.digest}",
    },
}
TOOLS = [load, clean, prices, mean, cut, report, pair, listed]


def test_a_plan_hands_frames_from_library_to_library(tmp_path):
    """Shape and columns can be read in expressions; a second run reuses every step; a replay on another store needs no library."""
    assert not check(PLAN, TOOLS).problems
    assert all(each.unseen is None for each in TOOLS)

    async def run():
        async with Engine(TOOLS, store=str(tmp_path / "s.db")) as engine:
            first = await engine.run(PLAN)
            first.raise_for_status()
            again = await engine.run(PLAN)
            stats = await engine.cache_stats()
            await engine.replay(first.id)
            await engine.export(first.id, tmp_path / "run.bundle")
            await engine.prune_artifacts()
            async with Engine(TOOLS, store="memory:") as other:
                assert (await other.replay(tmp_path / "run.bundle")).digest == first.digest
            return first, again, stats

    first, again, _ = asyncio.run(run())
    assert first.output == {
        "mean": 1.5,
        "rows": 6,
        "columns": ["city", "price"],
        "dtype": "float64",
        "shape": [3],
        "count": 6,
        "equal": True,
    }
    assert all(each.reused for each in again.steps.values())
    assert again.digest == first.digest


def test_the_check_knows_columns_and_element_types():
    """A column of another type, a column that nobody promised, and an array in the place of a table are found before anything runs."""

    @tool(effect="pure")
    def whole(table: Annotated[pd.DataFrame, Columns(price=int)]) -> int:
        """Take whole prices."""
        return len(table)

    def problems(step):
        steps = [*PLAN["steps"][:3], {"id": "w", "tool": "whole", "args": {"table": f"${{{step}}}"}}]
        report = check({"firmplan": 1, "steps": steps, "output": "${w}"}, [*TOOLS, whole])
        return {(each.code, each.severity) for each in report.problems if each.code != "unused-step"}

    assert problems("t") == {("type-mismatch", "error")}
    assert problems("c") == {("maybe-missing", "warning")}
    assert problems("p") == {("type-mismatch", "error")}


def _errors(*tools):
    async def run():
        async with Engine(tools, store="memory:") as engine:
            steps = [{"id": f"s{at}", "tool": each.name} for at, each in enumerate(tools)]
            found = await engine.run({"firmplan": 1, "steps": steps, "output": f"${{s{len(tools) - 1}}}"})
            return {each.step: each.message for each in found.errors}, found

    return asyncio.run(run())


def test_a_result_that_differs_from_its_type_is_refused_in_words():
    """The column, the library, and the missing annotation are named."""

    @tool(effect="pure")
    def other_dtype() -> Annotated[pd.DataFrame, Columns(a=str)]:
        """Return numbers."""
        return pd.DataFrame({"a": [1]})

    @tool(effect="pure")
    def other_library() -> pd.DataFrame:
        """Return a frame of polars."""
        return pl.DataFrame({"a": [1]})

    @tool(effect="pure")
    def untyped() -> Any:
        """Return a frame without saying so."""
        return pd.DataFrame({"a": [1]})

    @tool(effect="pure")
    def subclass() -> pd.DataFrame:
        """Return more than a frame."""
        return type("GeoFrame", (pd.DataFrame,), {})({"a": [1]})

    @tool(effect="pure")
    def no_number() -> float:
        """Return what is no number."""
        return np.float32("nan")

    errors, _ = _errors(other_dtype, other_library, untyped, subclass, no_number)
    assert '$.dtypes.a: expected "string", found "int64"' in errors["s0"]
    assert "expected a pandas.DataFrame, found a polars.DataFrame" in errors["s1"]
    assert "annotate the result as `-> pandas.DataFrame`" in errors["s2"]
    assert "found its subclass GeoFrame" in errors["s3"]
    assert "nan is not JSON" in errors["s4"]


def test_numbers_of_numpy_are_numbers_in_results():
    """Also inside dicts, lists, tuples, and where any result may stand."""

    @tool(effect="pure")
    def numbers() -> dict[str, Any]:
        """Return numbers."""
        return {"a": np.int64(3), "b": [np.float32(0.5), np.bool_(True)], "c": (np.uint8(3),)}

    _, run = _errors(numbers)
    assert run.output == {"a": 3, "b": [0.5, True], "c": [3]}


class Bare(BaseModel):
    """A model that allows any class."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    frame: pd.DataFrame


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (pl.LazyFrame, r"call `\.collect\(\)`"),
        (np.int64, "annotate int, float or bool"),
        (pd.Timestamp, r"annotate datetime\.datetime"),
        (pa.ChunkedArray, r"annotate pyarrow\.Table"),
        (Bare, r"expected a field annotated `Annotated\[pandas\.DataFrame, Columns\(\)\]`"),
        (Annotated[str, Columns(a=int)], "expected a frame or an array, found str"),
        (Annotated[np.ndarray, Columns(a=int)], "Columns: expected the annotation of a frame"),
        (Annotated[pd.DataFrame, Shape(1)], "Shape: expected the annotation of an array"),
    ],
)
def test_what_cannot_travel_is_refused_at_the_declaration(annotation, message):
    """The message says what to annotate."""

    def takes(value) -> int:
        """Take a value."""
        return 0

    takes.__annotations__["value"] = annotation
    with pytest.raises(ConfigError, match=message):
        tool(effect="pure")(takes)


def test_frames_are_inputs_and_are_read_again():
    """A run keeps them itself; a description of another kind, a type without a codec and a frame without bytes are refused in words."""

    async def law():
        async with Engine(TOOLS, store="memory:") as engine:
            plan = {
                "firmplan": 1,
                "inputs": {"table": clean.parameters["properties"]["table"]},
                "steps": [{"id": "c", "tool": "clean", "args": {"table": "${inputs.table}"}}],
                "output": "${c}",
            }
            frame = pd.DataFrame({"price": [1.0, None]})
            run = await engine.run(plan, inputs={"table": frame})
            run.raise_for_status()
            assert run.inputs["table"] == await engine.save_value(frame)
            assert (await engine.read_value(run.output, pl.DataFrame)).equals(pl.DataFrame({"price": [1.0]}))
            with pytest.raises(InputRejected, match=r"found application/vnd\.apache\.arrow"):
                await engine.read_value(run.output, np.ndarray)
            with pytest.raises(InputRejected, match="expected a type that has a codec"):
                await engine.read_value(run.output, int)
            with pytest.raises(InputRejected, match="found the dtype object"):
                await engine.save_value(np.array([object()]))
            with pytest.raises(InputRejected, match="expected a frame, an array"):
                await engine.save_value({"a": 1})

    asyncio.run(law())


@dataclass
class Given:
    """All inputs of a run."""

    report: Report
    parts: list[Part]
    arrays: dict[str, object]
    limit: object


@tool(effect="pure")
def weigh(
    report: Report, parts: list[Part], arrays: dict[str, NDArray[np.float64]], limit: float
) -> list[float]:
    """Count rows and sum arrays."""
    return [
        len(report.frame),
        sum(len(each.frame) for each in parts),
        *(each.sum() for each in arrays.values()),
        limit,
    ]


def test_inputs_of_runs_may_hold_frames_anywhere():
    """In fields of models and dataclasses, in lists and dicts; numpy's numbers are numbers; what has no bytes is refused."""
    frame = pd.DataFrame({"a": [1, 2]})
    plan = {
        "firmplan": 1,
        "inputs": {name: {} for name in ("report", "parts", "arrays", "limit")},
        "steps": [
            {
                "id": "w",
                "tool": "weigh",
                "args": {name: f"${{inputs.{name}}}" for name in ("report", "parts", "arrays", "limit")},
            }
        ],
        "output": "${w}",
    }
    given = Given(
        Report(frame=frame, word="x"), [Part(frame, 1), Part(frame, 2)], {"x": np.ones(3)}, np.float32(1.5)
    )
    with Engine([weigh], store="memory:") as engine:
        run = engine.run_sync(plan, inputs=given)
        assert run.output == [2, 4, 3.0, 1.5]
        assert run.inputs["report"]["frame"]["rows"] == 2
        assert run.inputs["report"]["word"] == "x"
        assert engine.run_sync(plan, inputs=vars(given)).digest == run.digest
        with pytest.raises(InputRejected, match="DataFrame cannot be encoded"):
            engine.run_sync(plan, inputs={"parts": [{"frame": pd.DataFrame({"a": [object()]})}]})
        with pytest.raises(InputRejected, match="an object of inputs by name, found a Python DataFrame"):
            engine.run_sync(plan, inputs=frame)


ARROW, NPY = "application/vnd.apache.arrow.file", "application/x-npy"


def test_a_preview_shows_the_first_rows():
    """Of frames with the types of their columns, of arrays of two axes as a table, of texts by line; of other bytes none."""
    shown = preview_of(ARROW, _bytes(pd.DataFrame({"a": [1, 2], "b": ["x", None]})), 5)
    assert [(each.name, each.type) for each in shown.columns] == [("a", "int64"), ("b", "string")]
    assert (shown.rows, shown.rows_total, shown.columns_total) == ((("1", "x"), ("2", None)), 2, 2)
    shown = preview_of(NPY, _bytes(np.arange(6).reshape(3, 2)), 2)
    assert (shown.rows, shown.shape, shown.dtype) == ((("0", "1"), ("2", "3")), (3, 2), "int64")
    assert preview_of(NPY, _bytes(np.arange(24).reshape(2, 3, 4)), 1).rows == (
        ("[[ 0  1  2  3] [ 4  5  6  7] [ 8  9 10 11]]",),
    )
    assert preview_of(NPY, _bytes(np.array(2.5)), 1).rows == (("2.5",),)
    shown = preview_of("text/csv", b"a,b\n1,2\n", 1)
    assert (shown.rows, shown.rows_total) == ((("a,b",),), 2)
    with pytest.raises(InputRejected, match="a frame, an array or a text, found application/pdf"):
        preview_of("application/pdf", b"%PDF", 1)


def test_a_preview_is_small():
    """Whatever the value is: rows, columns and the characters of a cell are bounded, also in lists, structs and texts that share their bytes."""
    frame = pd.DataFrame({f"c{at}": [1] for at in range(200)})
    shown = preview_of(ARROW, _bytes(frame), 5)
    assert (len(shown.columns), shown.columns_total) == (COLUMNS_MAX, 200)
    long = pa.table(
        {
            "text": ["\u00e4" * 9_000],
            "list": [list(range(9_000))],
            "struct": [{"a": "x" * 9_000}],
            "bytes": [b"y" * 9_000],
            "category": pa.array(["z" * 9_000]).dictionary_encode(),
        }
    )
    (row,) = preview_of(ARROW, _bytes(long), 5).rows
    assert max(map(len, row)) == CELL_MAX
    assert row[1] == "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...]"
    (line,) = preview_of("text/plain", b"x" * 9_000, 1).rows
    assert len(line[0]) == CELL_MAX
    with pytest.raises(InputRejected, match="rows: expected 1 to 1,000, found 0"):
        preview_of(NPY, _bytes(np.arange(3)), 0)


def test_a_preview_of_a_large_array_reads_its_beginning():
    """The first rows of a file whose first bytes are at hand; what is not among them is refused in words."""
    data = _bytes(np.arange(100_000).reshape(50_000, 2))
    shown = preview_of(NPY, data[:10_000], 3, is_whole=False)
    assert (shown.rows, shown.rows_total) == ((("0", "1"), ("2", "3"), ("4", "5")), 50_000)
    with pytest.raises(InputRejected, match="rows that fit into 10,000 bytes"):
        preview_of(NPY, _bytes(np.zeros((2, 90_000)))[:10_000], 3, is_whole=False)


@pytest.mark.parametrize("kind", [ARROW, NPY])
@pytest.mark.parametrize("data", [b"", b"ARROW1", b"x" * 500, b"\x93NUMPY\x01\x00\xff\xff{"])
def test_bytes_of_another_kind_have_no_preview(kind, data):
    with pytest.raises(InputRejected, match=f"expected bytes that are {kind}, found others"):
        preview_of(kind, data, 3)


def test_a_packed_table_is_read_if_it_is_no_bomb(monkeypatch):
    """Files of other programs may be compressed; how much they unpack to is looked up before it is done."""
    packed = io.BytesIO()
    feather.write_feather(
        pa.table({"z": np.zeros(1_000), "c": pa.array(["a"] * 1_000).dictionary_encode()}),
        packed,
        compression="zstd",
    )
    assert preview_of(ARROW, packed.getvalue(), 1).rows == (("0.0", "a"),)
    monkeypatch.setattr(frames, "UNPACKED_BYTES_MAX", 8_000)
    with pytest.raises(InputRejected, match=r"when unpacked, found 12,\d\d\d bytes"):
        preview_of(ARROW, packed.getvalue(), 1)
    with pytest.raises(ToolError, match="when unpacked"):
        decode(find_codec(pa.Table), packed.getvalue())


def test_an_engine_previews_what_a_run_returned(tmp_path):
    """Also an array that is kept in parts, of which it reads the first one."""
    wide = tmp_path / "wide.npy"
    np.save(wide, np.arange(1_500_000))
    with Engine(TOOLS, store="memory:") as engine:
        run = engine.run_sync(PLAN)
        assert engine.preview_artifact_sync(run.steps["c"].output, rows=1).rows_total == 3
        kept = engine.save_artifact_sync(wide).model_copy(update={"media_type": NPY})
        shown = engine.preview_artifact_sync(kept, rows=2)
        assert (shown.rows, shown.rows_total) == ((("0",), ("1",)), 1_500_000)
        with pytest.raises(InputRejected, match="its bytes are not in the store"):
            engine.preview_artifact_sync({**run.steps["c"].output, "digest": f"sha256:{'0' * 64}"})
