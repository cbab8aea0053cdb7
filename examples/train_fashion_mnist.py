#!/usr/bin/env python3
"""Train a small CNN on Fashion-MNIST, from PNG files to a plot in the bucket.

It can be killed at any moment and started again: it goes on from its last
checkpoint, and ends with the same weights as if it had never been killed.
Works with any data set of equally large grey images in <data>/train/<class>/
and <data>/test/<class>/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

try:
    import torch
    from PIL import Image
except ImportError:  # said in words by main()
    torch = None

DATA = Path("/data/datasets/fashion-mnist")
WORK = Path("/data/work/fashion-mnist")
OUT = Path("/s3/results/fashion-mnist")
TEST_BATCH = 1000


class TrainError(Exception):
    """What stands in the way, and what to do about it."""


@dataclass(frozen=True)
class Recipe:
    """What decides the weights; a checkpoint of another recipe is not gone on from."""

    seed: int
    batch: int
    rate: float
    classes: tuple[str, ...]


@dataclass
class Progress:
    """How far the training is: the next step to do, and what has been seen so far."""

    epoch: int
    step: int
    loss: list[list[float]]  # [epochs done, loss of the last steps, their accuracy in percent]
    accuracy: list[list[float]]  # [epochs done, accuracy on the test images in percent]
    # Of the steps since the last row of loss: sum of the losses, right guesses, images.
    since: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    @classmethod
    def start(cls) -> Progress:
        """Nothing done yet."""
        return cls(0, 0, [], [])


@dataclass
class Session:
    """A training under way."""

    recipe: Recipe
    progress: Progress
    model: Any
    optimizer: Any


# --- Files ----------------------------------------------------------------------------------------


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it there in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    write(new)
    with new.open("rb") as stream:
        os.fsync(stream.fileno())
    new.replace(path)


def copy_whole(source: Path, folder: Path) -> None:
    """Copy a finished file to a folder, such as one in the bucket, in one step."""
    write_whole(folder / source.name, lambda new: _copy(source, new))


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def list_images(data: Path, part: str) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """Name the classes in order, and each image with the index of its class."""
    root = data / part
    classes = (
        sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
    )
    images = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((root / name).glob("*.png"))
    ]
    if not images:
        raise TrainError(
            f"{root} holds no images: run ansible-playbook site.yml, or name them with --data"
        )
    return tuple(classes), images


def fingerprint(images: list[tuple[Path, int]]) -> str:
    """Tell these images from others by their names and sizes."""
    digest = hashlib.sha256()
    for path, label in images:
        digest.update(f"{label} {path.name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


# --- Data -----------------------------------------------------------------------------------------


def load_part(data: Path, part: str, cache: Path) -> tuple[tuple[str, ...], Any, Any]:
    """Load a part as classes, pixels (n, 1, height, width; uint8) and labels (n; int64).

    70,000 small files are read once; afterwards one file in ``cache`` is.
    """
    classes, images = list_images(data, part)
    wanted = fingerprint(images)
    path = cache / f"{part}.pt"
    kept = load_cache(path)
    if kept.get("fingerprint") == wanted:
        return classes, kept["pixels"], kept["labels"]
    began = time.monotonic()
    pixels, labels = read_images(images)
    print(f"read {len(images)} images of {part} in {time.monotonic() - began:.0f} s", flush=True)
    kept = {"fingerprint": wanted, "pixels": pixels, "labels": labels}
    write_whole(path, lambda new: torch.save(kept, new))
    return classes, pixels, labels


def load_cache(path: Path) -> dict[str, Any]:
    """Read what an earlier run kept; nothing where that cannot be read."""
    try:
        return load_checkpoint(path) if path.exists() else {}
    except TrainError:
        return {}


def read_images(images: list[tuple[Path, int]]) -> tuple[Any, Any]:
    """Decode the PNG files into one tensor."""
    with Image.open(images[0][0]) as first:
        width, height = first.size
    raw = bytearray()
    for path, _ in images:
        with Image.open(path) as image:
            if image.size != (width, height):
                raise TrainError(f"{path} is {image.size}, the others are {(width, height)}")
            raw += image.convert("L").tobytes()
    pixels = torch.frombuffer(raw, dtype=torch.uint8).reshape(len(images), 1, height, width)
    return pixels, torch.tensor([label for _, label in images])


def as_input(pixels: Any) -> Any:
    """Turn bytes into what the network takes: about zero in the mean, about one in spread."""
    return pixels.float().div(255).sub(0.286).div(0.353)


# --- Model ----------------------------------------------------------------------------------------


def make_model(classes: int, side: int = 28) -> Any:
    """Make two convolutions and two layers over them; 200,000 weights at 28x28."""
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, 128), nn.ReLU(),
        nn.Linear(128, classes),
    )  # fmt: skip


def repeatable(seed: int) -> None:
    """Have the same weights and the same sums each time, on the same kind of GPU as well."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def predict(model: Any, pixels: Any) -> Any:
    """Predict the class of each image."""
    model.eval()
    with torch.no_grad():
        found = [model(as_input(part)).argmax(1) for part in pixels.split(TEST_BATCH)]
    model.train()
    return torch.cat(found)


def order_of(epoch: int, count: int, recipe: Recipe) -> Any:
    """Shuffle by seed and epoch alone, so that a resumed epoch has the same order."""
    generator = torch.Generator().manual_seed(recipe.seed * 1000 + epoch)
    return torch.randperm(count, generator=generator)


# --- Checkpoint -----------------------------------------------------------------------------------


def save(path: Path, session: Session) -> None:
    """Write all that is needed to go on, whole or not at all."""
    state = {
        "recipe": json.dumps(asdict(session.recipe)),
        "progress": json.dumps(asdict(session.progress)),
        "model": session.model.state_dict(),
        "optimizer": session.optimizer.state_dict(),
    }
    write_whole(path, lambda new: torch.save(state, new))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running anything that it may hold."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise TrainError(f"{path} cannot be read ({error}): start anew with --fresh") from error
    return state


def check_recipe(path: Path, theirs: str, ours: Recipe) -> None:
    """Refuse to go on from a checkpoint that was made otherwise."""
    other = json.loads(theirs)
    mine = json.loads(json.dumps(asdict(ours)))
    differ = [
        f"{key} {other.get(key)} instead of {mine[key]}"
        for key in mine
        if other.get(key) != mine[key]
    ]
    if differ:
        raise TrainError(f"{path} was made with {', '.join(differ)}: start anew with --fresh")


def find_checkpoint(path: Path, recipe: Recipe) -> dict[str, Any] | None:
    """Read the checkpoint where there is one; refuse one of another recipe."""
    if not path.exists():
        return None
    state = load_checkpoint(path)
    check_recipe(path, state["recipe"], recipe)
    progress = json.loads(state["progress"])
    print(
        f"resuming from {path}: epoch {progress['epoch'] + 1}, step {progress['step']}", flush=True
    )
    return state


def take_up(session: Session, state: dict[str, Any] | None) -> None:
    """Go on from a checkpoint; from the start without one."""
    if state is None:
        return
    session.model.load_state_dict(state["model"])
    session.optimizer.load_state_dict(state["optimizer"])
    session.progress = Progress(**json.loads(state["progress"]))


# --- Training -------------------------------------------------------------------------------------


class Stop:
    """Turns a request to end into a flag that is looked at between two steps."""

    def __init__(self) -> None:
        self.signal = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked)

    def _asked(self, number: int, _: FrameType | None) -> None:
        self.signal = number


def train_epoch(session: Session, images: tuple[Any, Any], report: int) -> Iterator[None]:
    """Do the remaining steps of an epoch; yields after each, with the progress up to date."""
    pixels, labels = images
    progress, model, optimizer = session.progress, session.model, session.optimizer
    batches = order_of(progress.epoch, len(labels), session.recipe).split(session.recipe.batch)
    for step in range(progress.step, len(batches)):
        chosen = batches[step].to(labels.device)
        guess = model(as_input(pixels[chosen]))
        loss = torch.nn.functional.cross_entropy(guess, labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        count_step(progress, guess, labels[chosen], loss.item() * len(chosen))
        if progress.step % report == 0 or progress.step == len(batches):
            end_row(progress, len(batches), progress.since)
        yield


def count_step(progress: Progress, guess: Any, labels: Any, lost: float) -> None:
    """Count a step as done; ``lost`` is the sum of its images' losses."""
    right = (guess.argmax(1) == labels).sum().item()
    now = (lost, right, len(labels))
    progress.since = [old + new for old, new in zip(progress.since, now, strict=True)]
    progress.step += 1


def end_row(progress: Progress, steps: int, sums: list[float], said: bool = True) -> None:
    """Add a row to the loss curve: ``sums`` as in Progress.since, ``steps`` of an epoch."""
    lost, right, seen = sums
    loss, accuracy = lost / seen, 100 * right / seen
    progress.loss.append([progress.epoch + progress.step / steps, loss, accuracy])
    progress.since = [0.0, 0.0, 0.0]
    where = f"epoch {progress.epoch + 1} step {progress.step}/{steps}"
    if said:
        print(f"{where} loss {loss:.3f} accuracy {accuracy:.1f} %", flush=True)


def end_epoch(progress: Progress, model: Any, images: tuple[Any, Any]) -> None:
    """Count the epoch as done, and test the model on images it has never seen."""
    pixels, labels = images
    share = (predict(model, pixels) == labels).float().mean().item()
    progress.epoch, progress.step = progress.epoch + 1, 0
    progress.accuracy.append([progress.epoch, 100 * share])
    print(f"epoch {progress.epoch}: test accuracy {100 * share:.1f} %", flush=True)


def plot(path: Path, progress: Progress) -> None:
    """Draw loss and accuracy over the epochs."""
    import matplotlib  # noqa: PLC0415  (a second of loading, only needed here)

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    epochs = [row[0] for row in progress.loss]
    left.plot(epochs, [row[1] for row in progress.loss])
    left.set(title="Loss", xlabel="epoch", ylabel="cross entropy, training images", ylim=(0, None))
    right.plot(epochs, [row[2] for row in progress.loss], label="training images")
    right.plot(*zip(*progress.accuracy, strict=True), "o-", label="test images")
    right.set(title="Accuracy", xlabel="epoch", ylabel="%")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, format="png", dpi=120)
    pyplot.close(figure)


def publish(run: argparse.Namespace, progress: Progress) -> bool:
    """Draw the plot and copy the results out; whether they got there."""
    write_whole(run.work / "training.png", lambda new: plot(new, progress))
    try:
        for name in ("training.png", "checkpoint.pt"):
            copy_whole(run.work / name, run.out)
    except OSError as error:
        print(f"not copied to {run.out} ({error}): the results are in {run.work}", file=sys.stderr)
        return False
    print(f"wrote {run.out}/training.png and checkpoint.pt", flush=True)
    return True


def train(run: argparse.Namespace) -> int:
    """Train, test and publish each epoch; the exit status."""
    repeatable(run.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"training on {torch.cuda.get_device_name() if device == 'cuda' else 'the CPU'}")
    classes, *train_images = load_part(run.data, "train", run.work / "cache")
    test_classes, *test_images = load_part(run.data, "test", run.work / "cache")
    if test_classes != classes:
        raise TrainError(f"{run.data}: train and test do not hold the same classes")
    model = make_model(len(classes), train_images[0].shape[-1]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=run.rate)
    recipe = Recipe(run.seed, run.batch, run.rate, classes)
    session = Session(recipe, Progress.start(), model, optimizer)
    if not run.fresh:
        take_up(session, find_checkpoint(run.work / "checkpoint.pt", recipe))
    known, unseen = ([tensor.to(device) for tensor in part] for part in (train_images, test_images))
    return train_epochs(run, session, (known[0], known[1]), (unseen[0], unseen[1]))


def train_epochs(
    run: argparse.Namespace, session: Session, known: tuple[Any, Any], unseen: tuple[Any, Any]
) -> int:
    """Do what is left of the epochs; the exit status."""
    stop, checkpoint, progress = Stop(), run.work / "checkpoint.pt", session.progress
    published = progress.epoch == 0 or publish(run, progress)
    while progress.epoch < run.epochs:
        for _ in train_epoch(session, known, run.report):
            if progress.step % run.keep == 0 or stop.signal:
                save(checkpoint, session)
            if stop.signal:
                print(f"stopped by {signal.Signals(stop.signal).name}, saved {checkpoint}")
                return 128 + stop.signal
        end_epoch(progress, session.model, unseen)
        save(checkpoint, session)
        published = publish(run, progress)
    print(f"done: test accuracy {progress.accuracy[-1][1]:.1f} % after {progress.epoch} epochs")
    return 0 if published else 1


def positive(text: str) -> int:
    """Read a number of at least one."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def make_parser(description: str | None = __doc__) -> argparse.ArgumentParser:
    """Say what the command line may hold."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with train/ and test/")
    parser.add_argument("--work", type=Path, default=WORK, help="local folder of the checkpoint")
    parser.add_argument("--out", type=Path, default=OUT, help="where results go after each epoch")
    parser.add_argument("--epochs", type=positive, default=3, help="how many in all")
    parser.add_argument("--batch", type=positive, default=128, help="images a step")
    parser.add_argument("--rate", type=float, default=0.001, help="learning rate")
    parser.add_argument("--seed", type=int, default=1, help="of weights and order")
    parser.add_argument("--report", type=positive, default=50, help="steps between two lines")
    parser.add_argument("--keep", type=positive, default=100, help="steps between two checkpoints")
    parser.add_argument("--fresh", action="store_true", help="start anew, over the old checkpoint")
    return parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    return make_parser().parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Train as the command line says; 0 when all is done and published."""
    run = parse(argv)
    if torch is None:
        print("torch or Pillow is missing here: use /opt/lab/venv/bin/python", file=sys.stderr)
        return 2
    try:
        return train(run)
    except TrainError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
