"""The examples: what of them needs no torch, and the shape of the notebook."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples import train_fashion_mnist as script
from examples.train_fashion_mnist import Progress, Recipe, TrainError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = {path.stem: json.loads(path.read_text()) for path in sorted(EXAMPLES.glob("*.ipynb"))}
CODE = {
    name: [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for name, notebook in NOTEBOOKS.items()
}


def source_of(cell: dict[str, Any]) -> str:
    """The code of a cell, without the lines that only Jupyter understands."""
    lines = "".join(cell["source"]).splitlines()
    return "\n".join(line for line in lines if not line.startswith("%"))


@pytest.mark.parametrize("notebook", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_a_notebook_is_valid(notebook: dict[str, Any]) -> None:
    """By the schema of nbformat 4.5, as far as these cells go."""
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    identities = [cell["id"] for cell in notebook["cells"]]
    assert len(set(identities)) == len(identities)
    fields = {"markdown": set(), "code": {"execution_count", "outputs"}}
    for cell in notebook["cells"]:
        always = {"cell_type", "id", "metadata", "source"}
        assert set(cell) == always | fields[cell["cell_type"]]
        assert all(isinstance(line, str) for line in cell["source"])
        assert all(line.endswith("\n") for line in cell["source"][:-1])


@pytest.mark.parametrize("cells", CODE.values(), ids=CODE)
def test_a_notebook_holds_no_output(cells: list[dict[str, Any]]) -> None:
    outputs = [(cell["outputs"], cell["execution_count"]) for cell in cells]
    assert outputs == [([], None)] * len(cells)


@pytest.mark.parametrize(
    "cell", [cell for cells in CODE.values() for cell in cells], ids=lambda cell: cell["id"]
)
def test_each_cell_is_python(cell: dict[str, Any]) -> None:
    compile(source_of(cell), cell["id"], "exec")


def test_the_notebook_takes_from_the_script_what_is_there() -> None:
    tree = ast.parse("\n".join(source_of(cell) for cell in CODE["fashion_mnist"]))
    taken = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "train_fashion_mnist"
        for alias in node.names
    ]
    assert taken
    assert [name for name in taken if not hasattr(script, name)] == []


def image(root: Path, part: str, name: str, text: str = "png") -> Path:
    path = root / part / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_images_are_listed_by_class_in_order(tmp_path: Path) -> None:
    boot = image(tmp_path, "train", "boot/2.png")
    bags = [image(tmp_path, "train", "bag/10.png"), image(tmp_path, "train", "bag/2.png")]
    image(tmp_path, "train", "bag/readme.txt")
    image(tmp_path, "train", "labels.csv")
    classes, images = script.list_images(tmp_path, "train")
    assert classes == ("bag", "boot")
    assert images == [(bags[0], 0), (bags[1], 0), (boot, 1)]


@pytest.mark.parametrize("made", ["nothing", "train/bag"])
def test_no_images_is_said_with_the_way_out(tmp_path: Path, made: str) -> None:
    (tmp_path / made).mkdir(parents=True)
    with pytest.raises(TrainError) as caught:
        script.list_images(tmp_path, "train")
    said = "holds no images: run ansible-playbook site.yml, or name them with --data"
    assert str(caught.value) == f"{tmp_path}/train {said}"


def test_the_fingerprint_sees_names_sizes_and_classes(tmp_path: Path) -> None:
    first = image(tmp_path, "train", "bag/1.png")
    longer = image(tmp_path, "train", "boot/1.png", "longer")
    second = image(tmp_path, "train", "bag/2.png")
    cases = [[(first, 0)], [(first, 1)], [(longer, 0)], [(second, 0)], [(first, 0), (second, 0)]]
    assert len({script.fingerprint(case) for case in cases}) == len(cases)
    assert script.fingerprint([(first, 0)]) == script.fingerprint([(first, 0)])


def write(text: str) -> Callable[[Path], None]:
    def writer(new: Path) -> None:
        new.write_text(text)

    return writer


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/checkpoint.pt"
    script.write_whole(path, write("first"))

    def torn(new: Path) -> None:
        new.write_text("sec")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        script.write_whole(path, torn)
    assert path.read_text() == "first"
    script.write_whole(path, write("second"))
    assert path.read_text() == "second"
    assert [entry.name for entry in path.parent.iterdir()] == ["checkpoint.pt"]


def test_results_are_copied(tmp_path: Path) -> None:
    source = image(tmp_path, "work", "training.png", "plot")
    script.copy_whole(source, tmp_path / "s3/results")
    assert (tmp_path / "s3/results/training.png").read_text() == "plot"


RECIPE = Recipe(seed=1, batch=128, rate=0.001, classes=("bag", "boot"))
STORED = '{"seed": 1, "batch": 128, "rate": 0.001, "classes": ["bag", "boot"]}'


def test_a_checkpoint_of_the_same_recipe_is_taken() -> None:
    script.check_recipe(Path("c.pt"), STORED, RECIPE)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (STORED.replace("128", "64"), "c.pt was made with batch 64 instead of 128"),
        (STORED.replace('"seed": 1', '"seed": 2'), "c.pt was made with seed 2 instead of 1"),
        (STORED.replace("bag", "hat"), "['hat', 'boot'] instead of ['bag', 'boot']"),
        ("{}", "c.pt was made with seed None instead of 1, batch None instead of 128"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused(stored: str, said: str) -> None:
    with pytest.raises(TrainError) as caught:
        script.check_recipe(Path("c.pt"), stored, RECIPE)
    assert said in str(caught.value)
    assert str(caught.value).endswith(": start anew with --fresh")


def test_progress_starts_at_nothing() -> None:
    assert Progress.start() == Progress(0, 0, [], [])


def test_the_command_line() -> None:
    run = script.parse([])
    assert (run.data, run.work, run.out) == (script.DATA, script.WORK, script.OUT)
    assert (run.epochs, run.fresh) == (3, False)
    assert script.parse(["--out", "/tmp/x", "--epochs", "1", "--fresh"]).out == Path("/tmp/x")


@pytest.mark.parametrize("number", ["0", "-3", "two"])
def test_numbers_below_one_are_refused(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.parse(["--epochs", number])
    assert "--epochs" in capsys.readouterr().err


def test_without_torch_it_says_which_python_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "torch", None)
    assert script.main([]) == 2
    said = "torch or Pillow is missing here: use /opt/lab/venv/bin/python\n"
    assert capsys.readouterr().err == said
