"""Writes the Python of every proto beside it: `python -m videogen.protos.generate`."""

import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent
PACKAGE = "videogen.protos"
IMPORTS = re.compile(r"^(\s*)from videogen\.(v\d+) import", re.MULTILINE)
"""protoc names a module by its place under the root of the protos, which is no root of Python's."""


def generated() -> dict[Path, str]:
    """What grpcio-tools makes of the protos: path under the root -> text."""
    from grpc_tools import protoc

    protos = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.proto"))
    well_known = Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        outputs = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
        if protoc.main(["protoc", f"-I{ROOT}", f"-I{well_known}", *outputs, *protos]):
            sys.exit("protoc refused the protos; what it said stands above")
        made = {path.relative_to(folder): path.read_text() for path in Path(folder).rglob("*.py*")}
    texts = {path: IMPORTS.sub(rf"\1from {PACKAGE}.videogen.\2 import", text) for path, text in made.items()}
    return {path: text for path, text in texts.items() if not _is_empty_stub(path, text)}


def _is_empty_stub(path: Path, text: str) -> bool:
    """A file without services gets a _pb2_grpc that holds nothing but a check of grpc's version."""
    return path.name.endswith("_pb2_grpc.py") and "class " not in text


def main() -> None:
    for path, text in generated().items():
        (ROOT / path).write_text(text)


if __name__ == "__main__":
    main()
