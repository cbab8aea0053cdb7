"""What runs on the host runs on every Python from 3.9 to 3.13, not only on ours."""

from __future__ import annotations

import ast
import builtins
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible.module_utils
import pytest

from tests.contract.conftest import ROOT
from tests.unit import test_unzip_hostile
from tests.unit.unzip_classes import CASES

OLDEST = (3, 9)
LAB = ROOT / "module_utils" / "lab"
FILES = [ROOT / "library/parallel_unzip.py", LAB / "errors.py", *sorted(LAB.glob("unzip/*.py"))]
NEWEST_AND_OLDEST = ("python3.9", "python3.13")
ANSIBLES = Path(next(iter(ansible.module_utils.__path__)))
_CLASS = re.compile(r"_?[A-Z]+[a-z]\w*")
by_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@by_file
def test_syntax_is_of_the_oldest(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=OLDEST)


def test_library_calls_are_of_the_oldest() -> None:
    """Calls and keywords that came later, such as zip(strict=); annotations are not evaluated."""
    command = [
        "vermin", "--no-config-file", "--target=3.9-", "--violations", "--no-eval-annotations",
        "--no-parse-comments", "--no-tips", "-vvv", *map(str, FILES),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@by_file
def test_no_union_is_made_when_the_code_runs(path: Path) -> None:
    """`A | B` of classes is of 3.10, but in an annotation that nobody evaluates.

    vermin's own search for it takes the sums of flags (os.O_RDONLY | ...) for unions.
    """
    tree = ast.parse(path.read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)][:1]
    lazy = any(name.name == "annotations" for node in imports for name in node.names)
    assert lazy or tree.body[1:] == [], "from __future__ import annotations is missing"
    unions = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in evaluated(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
        if is_class(node.left) or is_class(node.right)
    ]
    assert unions == []


def evaluated(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk all nodes but the annotations."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.AST):
                yield node
                yield from evaluated(node)


def is_class(node: ast.AST) -> bool:
    """Whether an expression looks like a class: a builtin one, CamelCase, None, list[int]."""
    if isinstance(node, ast.Subscript):
        return is_class(node.value)
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.Attribute):
        return bool(_CLASS.fullmatch(node.attr))
    if not isinstance(node, ast.Name):
        return False
    return isinstance(getattr(builtins, node.id, None), type) or bool(_CLASS.fullmatch(node.id))


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("Bytes = bytes | bytearray", True),
        ("isinstance(x, Path | None)", True),
        ("def f(a: int | None = None) -> str | None: b: int | str = os.A | os.B_C", False),
        ("MODE = O_NEW | flags", False),
    ],
)
def test_the_search_for_unions_finds_them(code: str, found: bool) -> None:
    nodes = [node for node in evaluated(ast.parse(code)) if isinstance(node, ast.BinOp)]
    assert any(is_class(node.left) or is_class(node.right) for node in nodes) is found


CHILD = """
import json, os, sys
from pathlib import Path
cases, yard = Path(sys.argv[1]), Path(sys.argv[2])
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.unzip.task import run
import parallel_unzip

def look(folder):
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes().hex()
        for path in sorted(folder.rglob("*")) if not path.name.startswith(".parallel_unzip")
    }

def verdict(path, dest, **more):
    params = dict.fromkeys(parallel_unzip.ARGUMENTS)
    params.update((key, said["default"]) for key, said in parallel_unzip.ARGUMENTS.items()
                  if "default" in said)
    params.update(src=[str(path)], dest=str(dest), workers=2, **more)
    try:
        done = run(parallel_unzip.make_request(params), False)
    except LabError as error:
        return {"refused": str(error).replace(str(yard), "")}
    again = run(parallel_unzip.make_request(params), False)
    return {"files": done["files"], "again": again["changed"], "found": look(dest)}

said = {}
for path in sorted(cases.iterdir()):
    for engine, strict in (("auto", False), ("zlib", True)):
        key = f"{path.stem} {engine} {strict}"
        said[key] = verdict(path, yard / key, engine=engine, strict=strict)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hostile and good archives of the unit tests, a file each."""
    folder = tmp_path_factory.mktemp("cases")
    tables = [
        {name: data for name, (data, _) in test_unzip_hostile.REFUSED.items()},
        {name: data for name, (data, _) in test_unzip_hostile.good_cases().items()},
        {case.name: case.data for case in CASES},
    ]
    for number, table in enumerate(tables):
        for name, data in table.items():
            (folder / f"{number} {name.replace('/', '_')}.zip").write_bytes(data)
    return folder


def verdicts(python: str, cases: Path, yard: Path) -> Any:
    """What the module says and does on that Python, with nothing but what Ansible ships."""
    shipped = yard / "lib" / "ansible" / "module_utils"
    shipped.mkdir(parents=True)
    (shipped.parent / "__init__.py").touch()
    for path in ANSIBLES.iterdir():
        (shipped / path.name).symlink_to(path)
    (shipped / "lab").symlink_to(LAB)
    (yard / "out").mkdir()
    done = subprocess.run(
        [python, "-S", "-c", CHILD, str(cases), str(yard / "out")],
        env=os.environ | {"PYTHONPATH": f"{yard / 'lib'}:{ROOT / 'library'}",
                          "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.replace(str(yard), ""))


def starts(python: str) -> bool:
    return not subprocess.run([python, "--version"], capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def expected(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The verdicts of the Python that runs the tests."""
    return verdicts(sys.executable, cases, tmp_path_factory.mktemp("ours"))


@pytest.mark.parametrize("name", NEWEST_AND_OLDEST)
def test_verdicts_are_the_same_on(
    name: str, cases: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    python = shutil.which(name)
    if not python or not starts(python):
        pytest.skip(f"{name} is not on the PATH: parallel_unzip UNTESTED on it here")
    expected = request.getfixturevalue("expected")
    assert len(expected) > 2 * len(CASES)
    assert verdicts(python, cases, tmp_path) == expected
