"""Laws of artifacts: bytes by digest, saved and opened through the context, never inside a value."""

import hashlib

import pytest
from firmplan import Artifact, ConfigError, Context, ToolError, tool
from firmplan.plans.values import digest, parse_canonical
from pydantic import ValidationError


class Shelf:
    """Bytes in a dict."""

    def __init__(self):
        self.kept = {}

    def put(self, data, /):
        self.kept[digest(data)] = data
        return digest(data)

    def get(self, name, /):
        return self.kept[name]


def test_an_artifact_says_digest_type_size_and_name():
    """The digest is SHA-256 of the bytes; the type is what was said, else what the name's ending says."""
    made = Artifact.of_bytes(b"a,b\n", name="table.csv")
    assert made.digest == "sha256:" + hashlib.sha256(b"a,b\n").hexdigest()
    assert (made.media_type, made.size, made.name) == ("text/csv", 4, "table.csv")
    assert Artifact.of_bytes(b"").media_type == "application/octet-stream"
    assert Artifact.of_bytes(b"", media_type="image/x").media_type == "image/x"


def test_a_file_is_an_artifact_of_its_bytes(tmp_path):
    """The name is the file's; where it was is not part of it. What cannot be read is told in one message."""
    path = tmp_path / "note.txt"
    path.write_bytes(b"hello")
    assert Artifact.of_file(path) == Artifact.of_bytes(b"hello", name="note.txt")
    with pytest.raises(ConfigError, match="expected a file that can be read"):
        Artifact.of_file(tmp_path / "missing.txt")
    with pytest.raises(ConfigError, match="expected a file that can be read"):
        Artifact.of_file(tmp_path)


@pytest.mark.parametrize("change", [{"digest": "abc"}, {"size": -1}, {"size": "4"}, {"path": "/etc"}])
def test_artifacts_from_outside_are_checked(change):
    """A digest that is none, a negative size and fields that there are not are refused."""
    given = {"digest": "sha256:" + "0" * 64, "media_type": "a/b", "size": 1, "name": "n"}
    assert Artifact.model_validate(given, strict=True).size == 1
    with pytest.raises(ValidationError):
        Artifact.model_validate({**given, **change}, strict=True)


def test_tools_take_and_give_artifacts():
    """Bytes go through the context; in the plan flows JSON that names them."""

    @tool(effect="pure")
    def upper(file: Artifact, *, ctx: Context) -> Artifact:
        """Return the text in capitals."""
        return ctx.save(ctx.open(file).upper(), media_type=file.media_type, name="upper.txt")

    ctx = Context(step="s", blobs=Shelf())
    given = ctx.save(b"abc", media_type="text/plain", name="lower.txt")
    sealed = upper.seal(upper.invoke(upper.bind({"file": given.model_dump()}), ctx))
    made = Artifact.model_validate(parse_canonical(sealed))
    assert ctx.open(made) == b"ABC"
    assert set(upper.returns["properties"]) == {"digest", "media_type", "size", "name"}


def test_without_a_store_for_bytes_it_is_said():
    """Neither saving nor opening does anything in silence."""
    ctx = Context(step="s")
    for act in (lambda: ctx.save(b"x"), lambda: ctx.open(Artifact.of_bytes(b"x"))):
        with pytest.raises(ToolError, match="no store for bytes here") as raised:
            act()
        assert raised.value.code == "no-blobs"


def test_a_value_that_stands_for_bytes_says_who_has_them():
    """Whoever takes it for a file learns what reads and writes it."""
    made = Artifact.of_bytes(b"x")
    for name in ("open", "save", "read_bytes"):
        with pytest.raises(
            AttributeError, match=rf"has no '{name}'.*ctx\.open_file.*engine\.download_artifact"
        ):
            getattr(made, name)
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        _ = made.colour


def test_missing_and_changed_bytes_are_refused():
    """Bytes that are not there, or are not those of the digest, are never handed out."""
    shelf = Shelf()
    ctx = Context(step="s", blobs=shelf)
    made = Artifact.of_bytes(b"x", name="x.bin")
    with pytest.raises(ToolError, match=r"'x.bin' are not in the store") as raised:
        ctx.open(made)
    assert raised.value.code == "no-artifact"
    shelf.kept[made.digest] = b"y"
    with pytest.raises(ToolError, match="other bytes"):
        ctx.open(made)
