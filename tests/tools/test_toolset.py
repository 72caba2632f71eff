"""Laws of toolsets: names are unique and sorted, loading takes files, modules and lists, and every mistake is one message."""

import subprocess
import sys

import pytest
from firmplan import ConfigError, Tool, Toolset, tool

GOOD = '''
from firmplan import tool
from dataclasses import dataclass

@dataclass
class Page:
    title: str

@tool(effect="read")
def {name}(url: str) -> Page:
    """Fetch a page."""
    return Page(url)
'''


def made(name: str) -> Tool:
    """Return a tool of that name."""
    return (
        tool(lambda: None, name=name) if False else Tool.from_callable(lambda: None, name=name, parameters={})
    )


def test_names_are_sorted_and_tools_found_by_name():
    """Everything that lists tools lists them by name; `get` raises with the nearest name, `find` may miss."""
    tools = Toolset([made("b"), made("send_mail"), made("a")])
    assert tools.names == ("a", "b", "send_mail")
    assert [each.name for each in tools] == ["a", "b", "send_mail"]
    assert tools.get("b").name == tools["b"].name == tools.find("b").name == "b"
    assert tools.find("c") is None
    assert "a" in tools
    assert tools.get("a") in tools
    assert len(tools) == 3
    with pytest.raises(
        ConfigError, match=r"no tool 'send_mial'; the toolset has a, b, send_mail; did you mean 'send_mail'"
    ):
        tools.get("send_mial")


def test_toolsets_add_up():
    """`a + b` is a new toolset; lists will do on either side; the same tool twice is one."""
    a, b, c = made("a"), made("b"), made("c")
    both = Toolset([a]) + Toolset([b])
    assert both.names == ("a", "b")
    assert (both + [c]).names == ([c] + both).names == ("a", "b", "c")  # noqa: RUF005  # toolsets, not lists
    assert (both + both).names == both.names
    assert Toolset().names == ()
    assert Toolset.of([a]).names == ("a",)
    assert Toolset.of(both) is both


def test_two_tools_of_one_name_are_refused():
    """A name conflict names both tools and says what to do."""
    with pytest.raises(
        ConfigError, match=r"two tools are called 'a': .* and .*; give one of them another name"
    ):
        Toolset([made("a")]) + Toolset([made("a")])


def undecorated():
    """Do nothing."""


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ([undecorated], "decorate undecorated with @tool"),
        ([3], "expected a tool, found 3"),
        ("tools.py", r"expected a list of tools, found 'tools.py'; write Toolset.load\('tools.py'\)"),
        (made("a"), r"write \[a\]"),
        (None, "expected a list of tools"),
    ],
)
def test_what_is_no_tool_is_named(tools, words):
    """A forgotten decorator, or a single tool without a list, is told with the cure."""
    with pytest.raises(ConfigError, match=words):
        Toolset(tools)


def test_methods_want_an_instance():
    """A method in its class body waits for an instance; through one it is a tool like any other."""
    with pytest.raises(
        ConfigError, match=r"method of Till; hand over the method of an instance: Till\(\.\.\)\.price"
    ):
        Toolset([Till.price])
    assert Toolset([Till().price]).names == ("price",)


class Till:
    @tool(effect="pure")
    def price(self, net: float) -> float:
        """Price."""
        return net


def test_files_are_loaded(tmp_path):
    """A file's tools are those it holds as global names; it is read again when loaded again; paths may be `Path`s."""
    path = tmp_path / "tools.py"
    path.write_text(GOOD.format(name="fetch"))
    assert Toolset.load(str(path)).names == ("fetch",)
    path.write_text(GOOD.format(name="catch"))
    assert Toolset.load(path).names == ("catch",)


def test_a_file_may_import_its_neighbours(tmp_path, monkeypatch):
    """Modules beside a tools file can be imported, also by calls later."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "neighbour_of_tools.py").write_text("def h(): return 5\n")
    (tmp_path / "tools.py").write_text(
        "from firmplan import tool\n@tool\ndef f() -> int:\n    from neighbour_of_tools import h\n    return h()\n"
    )
    assert Toolset.load(tmp_path / "tools.py").get("f")() == 5


def test_modules_and_lists_are_loaded(tmp_path, monkeypatch):
    """A dotted name is a module, found in the working directory too; a list is the sum of its sources."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    package = tmp_path / "pack_of_tools"
    package.mkdir()
    (package / "__init__.py").write_text(GOOD.format(name="outer"))
    (package / "inner.py").write_text(GOOD.format(name="inner"))
    (tmp_path / "more.py").write_text(GOOD.format(name="more"))
    assert Toolset.load("pack_of_tools.inner").names == ("inner",)
    assert Toolset.load("pack_of_tools").names == ("outer",)
    assert Toolset.load(["pack_of_tools", "pack_of_tools.inner", "more.py"]).names == (
        "inner",
        "more",
        "outer",
    )
    assert Toolset.load(["more.py"]).get("more").effect == "read"


def test_the_same_module_twice_is_no_conflict(tmp_path):
    """Sources that share tools load once."""
    path = tmp_path / "tools.py"
    path.write_text(GOOD.format(name="fetch"))
    assert Toolset.load([path, path]).names == ("fetch",)


BROKEN = {
    "raises": ("1 / 0\n", r"cannot be loaded: ZeroDivisionError at .*tools.py:1: division by zero"),
    "raises_below": ("def g():\n    raise KeyError('x')\ng()\n", r"KeyError at .*tools.py:2"),
    "syntax": ("def f(:\n", r"SyntaxError at .*tools.py:1"),
    "exits": ("import sys\nsys.exit(3)\n", r"SystemExit at .*tools.py:2"),
    "import": ("import there_is_no_such_thing\n", r"ModuleNotFoundError at .*tools.py:1: No module named"),
    "no_tools": ("def f(): pass\n", "expected functions decorated with @tool, found none"),
    "empty": ("", "expected functions decorated with @tool, found none"),
    "no_annotation": (
        "from firmplan import tool\n@tool\ndef f(x): pass\n",
        r"tool 'f' \(.*tools.py:2\): parameter 'x' has no annotation",
    ),
    "bad_setting": (
        "from firmplan import tool\n@tool(effect='reed')\ndef f() -> int: ...\n",
        "did you mean 'read'",
    ),
    "two_of_a_name": (
        "from firmplan import tool\n@tool(name='f')\ndef a() -> int: ...\n@tool(name='f')\ndef b() -> int: ...\n",
        "two tools are called 'f'",
    ),
    "not_text": (b"\xff\xfe\x00", "cannot be loaded"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_wrong_in_a_tools_file_is_one_message(fault, tmp_path):
    """A file that fails is a ConfigError with file, line and the original error, and leaves no module behind."""
    source, words = BROKEN[fault]
    path = tmp_path / "tools.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    before = set(sys.modules)
    with pytest.raises(ConfigError, match=words) as raised:
        Toolset.load(path)
    assert "\n" not in str(raised.value)
    if fault not in ("no_tools", "empty", "two_of_a_name"):
        assert not {name for name in set(sys.modules) - before if name.startswith("firmplan_tools_")}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing/tools.py", "expected a Python file with tools, found nothing there; check the path"),
        ("no_such_module_at_all", "expected a module that can be imported, found no 'no_such_module_at_all'"),
        ("json.nothing", "found no 'json.nothing'"),
        ("what is this", 'expected a file such as "tools.py" or a module'),
        ("json", "expected functions decorated with @tool, found none"),
    ],
)
def test_sources_that_are_not_there(source, words):
    """A missing file or module says what was looked for, and where."""
    with pytest.raises(ConfigError, match=words):
        Toolset.load(source)


def test_a_folder_is_no_file(tmp_path):
    """A folder given as a file is told as one."""
    with pytest.raises(ConfigError, match="found a folder there"):
        Toolset.load(tmp_path)


def test_a_forgotten_ending_is_guessed(tmp_path, monkeypatch):
    """`tools2` for `tools2.py` gets the hint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "tools.d").mkdir()
    with pytest.raises(ConfigError, match="found no 'tools_x'"):
        Toolset.load("tools_x")


def test_tools_load_neither_models_nor_graphs():
    """`from firmplan.tools import Tool` stays light: no model client, no graph library, no logger."""
    heavy = ["openai", "instructor", "networkx", "structlog", "tenacity", "fastapi", "yaml"]
    script = f"import sys\nfrom firmplan.tools import Tool, Artifact, agent, tool\nprint([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_of_the_room_is_there():
    """`__all__` holds what can be imported."""
    import firmplan.tools

    for name in firmplan.tools.__all__:
        assert getattr(firmplan.tools, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = firmplan.tools.nothing
