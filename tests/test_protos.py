"""The protos: the Python beside them is what they give, and they keep the rules of buf's STANDARD lint and COMMENTS."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from videogen.protos.generate import ROOT, generated

SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
PASCAL = re.compile(r"([A-Z][a-z0-9]*)+")
WELL_KNOWN = ("google/protobuf/struct.proto", "google/protobuf/timestamp.proto")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[descriptor_pb2.FileDescriptorProto]:
    from grpc_tools import protoc

    out = tmp_path_factory.mktemp("descriptors") / "set.bin"
    include = Path(protoc.__file__).parent / "_proto"
    protos = [str(path.relative_to(ROOT)) for path in sorted(ROOT.rglob("*.proto"))]
    options = [f"-I{ROOT}", f"-I{include}", "--include_source_info", f"--descriptor_set_out={out}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *protos], check=True)
    return list(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file)


def test_the_python_is_what_the_protos_give():
    made = generated()
    kept = {path.relative_to(ROOT): path.read_text() for path in ROOT.rglob("*_pb2*.py*") if path.suffix != ".pyc"}
    assert sorted(kept) == sorted(made), "run `make protos`"
    assert [str(path) for path, text in made.items() if kept[path] != text] == [], "run `make protos`"


def test_files_stand_where_their_package_says_and_import_what_they_use(files):
    for file in files:
        assert file.syntax == "proto3" and file.package == "videogen.v1"
        assert Path(file.name).parent == Path("videogen/v1") and SNAKE.fullmatch(Path(file.name).stem)
        assert not file.public_dependency and not file.weak_dependency
        used = {field.type_name for message in file.message_type for field in _fields(message)}
        for name in file.dependency:
            ours = [other for other in files if other.name == name]
            kind = f".{ours[0].package}." if ours else ".google.protobuf."
            assert ours or name in WELL_KNOWN, f"{file.name} imports {name}"
            assert any(type_name.startswith(kind) for type_name in used), f"{file.name} does not use {name}"


def test_names(files):
    for file in files:
        for message in _messages(file.message_type):
            assert PASCAL.fullmatch(message.name)
            for field in message.field:
                assert SNAKE.fullmatch(field.name), f"{message.name}.{field.name}"
            for oneof in message.oneof_decl:
                assert SNAKE.fullmatch(oneof.name.removeprefix("_")), f"{message.name}.{oneof.name}"


def test_enums_begin_unspecified_and_bear_their_prefix(files):
    for file in files:
        for enum in file.enum_type:
            prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
            assert not enum.options.allow_alias
            assert (enum.value[0].name, enum.value[0].number) == (f"{prefix}UNSPECIFIED", 0)
            assert all(value.name.startswith(prefix) and value.name.isupper() for value in enum.value)


def test_services_have_messages_of_their_own(files):
    seen: list[str] = []
    for file in files:
        for service in file.service:
            assert service.name.endswith("Service") and PASCAL.fullmatch(service.name)
            for method in service.method:
                assert PASCAL.fullmatch(method.name)
                names = (method.input_type, method.output_type)
                assert names == (f".videogen.v1.{method.name}Request", f".videogen.v1.{method.name}Response")
                seen += names
    assert len(seen) == len(set(seen)) and len(seen) > 30


def test_everything_public_has_a_comment(files):
    bare: list[str] = []
    for file in files:
        commented = {tuple(place.path) for place in file.source_code_info.location if place.leading_comments.strip()}
        bare += [f"{file.name}: {name}" for path, name in _public(file) if path not in commented]
    assert bare == []


def _messages(
    messages: Iterable[descriptor_pb2.DescriptorProto],
) -> Iterator[descriptor_pb2.DescriptorProto]:
    for message in messages:
        if not message.options.map_entry:
            yield message
            yield from _messages(message.nested_type)


def _fields(message: descriptor_pb2.DescriptorProto) -> Iterator[descriptor_pb2.FieldDescriptorProto]:
    yield from message.field
    for nested in message.nested_type:
        yield from _fields(nested)


def _public(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Path in source_code_info and name of each message, field, oneof, enum, value, service and method."""
    for index, message in enumerate(file.message_type):
        yield (4, index), message.name
        for inner, field in enumerate(message.field):
            yield (4, index, 2, inner), f"{message.name}.{field.name}"
        for inner, oneof in enumerate(message.oneof_decl):
            if not oneof.name.startswith("_"):
                yield (4, index, 8, inner), f"{message.name}.{oneof.name}"
    for index, enum in enumerate(file.enum_type):
        yield (5, index), enum.name
        for inner, value in enumerate(enum.value):
            yield (5, index, 2, inner), value.name
    for index, service in enumerate(file.service):
        yield (6, index), service.name
        for inner, method in enumerate(service.method):
            yield (6, index, 2, inner), f"{service.name}.{method.name}"
