#!/usr/bin/env python3
"""Train the CNN of train_fashion_mnist.py by several processes, on one host or on several.

    torchrun --nproc-per-node=2 train_fashion_mnist_ddp.py
    sbatch --nodes=2 train_ddp.sbatch

The processes divide each batch among them and average their gradients, so the loss curve
is the same however many they are. Killed at any moment and started again, it goes on from
its last checkpoint, and the loss curve is as if it had never been killed.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import train_fashion_mnist as single
from train_fashion_mnist import Progress, Recipe, Session, TrainError

try:
    import torch
    import torch.distributed as dist
except ImportError:  # said in words by main()
    torch = None

# On the disk that all hosts share: the next attempt may run on others.
WORK = Path("/data/work/fashion-mnist-ddp")
OUT = Path("/s3/results/fashion-mnist-ddp")
# For a process that waits for the others, the first reading of the images included.
PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Team:
    """The processes of one training, of which this is number ``rank``."""

    rank: int
    size: int
    device: str

    def mine(self, batch: Any) -> Any:
        """Take this process's share of a batch."""
        return batch[self.rank :: self.size]

    def total(self, numbers: list[float]) -> list[float]:
        """Add up the numbers of all processes."""
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return [float(one) for one in sums]

    def meet(self) -> None:
        """Wait until all processes are here."""
        gpu = torch.device(self.device).index
        dist.barrier(device_ids=None if gpu is None else [gpu])

    def from_first(self, look: Callable[[], Any]) -> Any:
        """Let the first process look, and give all what it found, or the TrainError that it met.

        So nobody else needs the files, and all go on from one and the same.
        """
        found: list[Any] = [None, None]
        if self.rank == 0:
            try:
                found[0] = look()
            except TrainError as error:
                found[1] = str(error)
        dist.broadcast_object_list(found, src=0, device=torch.device(self.device))
        if found[1] is not None:
            raise TrainError(found[1])
        return found[0]


def join() -> Team:
    """Meet the others: over NCCL where there are GPUs, over gloo where there are none."""
    if "RANK" not in os.environ:
        raise TrainError(
            "nobody says which process this is: start it by torchrun or train_ddp.sbatch"
        )
    local = int(os.environ["LOCAL_RANK"])
    gpus = torch.cuda.device_count()
    if gpus and local >= gpus:
        raise TrainError(
            f"process {local} of this host has no GPU, it has {gpus}: lower --nproc-per-node"
        )
    if gpus:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if gpus else "gloo", timeout=PATIENCE)
    team = Team(dist.get_rank(), dist.get_world_size(), f"cuda:{local}" if gpus else "cpu")
    where = f"{platform.node()} ({team.device})"
    print(f"process {team.rank} of {team.size} on {where}, attempt {attempt()}", flush=True)
    return team


def attempt() -> int:
    """Count the starts of this training: by Slurm, after a host was lost, and by torchrun."""
    names = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
    return 1 + sum(int(os.environ.get(name, "0")) for name in names)


def load(run: argparse.Namespace) -> tuple[tuple[str, ...], Any, Any]:
    """Load classes, training images and test images."""
    classes, *known = single.load_part(run.data, "train", run.work / "cache")
    test_classes, *unseen = single.load_part(run.data, "test", run.work / "cache")
    if test_classes != classes:
        raise TrainError(f"{run.data}: train and test do not hold the same classes")
    return classes, known, unseen


def train(run: argparse.Namespace, team: Team) -> bool:
    """Train what is left of the epochs; whether the results were published."""
    single.repeatable(run.seed)
    classes, known, unseen = team.from_first(lambda: load(run))
    model = single.make_model(len(classes), known[0].shape[-1]).to(team.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=run.rate)
    recipe = Recipe(run.seed, run.batch, run.rate, classes)
    session = Session(recipe, Progress.start(), model, optimizer)
    if not run.fresh or attempt() > 1:
        checkpoint = run.work / "checkpoint.pt"
        single.take_up(session, team.from_first(lambda: single.find_checkpoint(checkpoint, recipe)))
        if team.rank:  # what the checkpoint has summed up is counted once
            session.progress.since = [0.0, 0.0, 0.0]
    known, unseen = ([tensor.to(team.device) for tensor in part] for part in (known, unseen))
    published = session.progress.epoch == 0 or publish(run, team, session)
    # It hands each process the average of all gradients; the weights stay those of `model`.
    model = torch.nn.parallel.DistributedDataParallel(model)
    while session.progress.epoch < run.epochs:
        train_epoch(run, team, session, model, known)
        end_epoch(run, team, session, unseen)
        published = publish(run, team, session)
    if team.rank == 0:
        accuracy = session.progress.accuracy[-1][1]
        print(f"done: test accuracy {accuracy:.1f} % after {session.progress.epoch} epochs")
    return published


def train_epoch(
    run: argparse.Namespace, team: Team, session: Session, model: Any, images: tuple[Any, Any]
) -> None:
    """Do the remaining steps of an epoch, this process its share of each."""
    pixels, labels = images
    progress, optimizer = session.progress, session.optimizer
    batches = single.order_of(progress.epoch, len(labels), session.recipe).split(run.batch)
    began, first = time.monotonic(), progress.step
    for batch in batches[first:]:
        chosen = team.mine(batch).to(team.device)
        guess = model(single.as_input(pixels[chosen]))
        lost = torch.nn.functional.cross_entropy(guess, labels[chosen], reduction="sum")
        optimizer.zero_grad()
        # The shares may differ in size by one: the average over processes becomes that over images.
        (lost * team.size / len(batch)).backward()
        optimizer.step()
        single.count_step(progress, guess, labels[chosen], lost.item())
        if progress.step % run.report == 0 or progress.step == len(batches):
            sums = team.total(progress.since)
            single.end_row(progress, len(batches), sums, said=team.rank == 0)
        if progress.step % run.keep == 0:
            keep(run, team, session)
    done = sum(len(batch) for batch in batches[first:])
    if done and team.rank == 0:
        rate = done / (time.monotonic() - began)
        print(
            f"epoch {progress.epoch + 1}: {rate:.0f} images/s by {team.size} processes", flush=True
        )


def keep(run: argparse.Namespace, team: Team, session: Session) -> None:
    """Have the first process save, with the sums of all since the last row of the loss curve."""
    sums = team.total(session.progress.since)
    session.progress.since = sums if team.rank == 0 else [0.0, 0.0, 0.0]
    if team.rank == 0:
        single.save(run.work / "checkpoint.pt", session)


def end_epoch(
    run: argparse.Namespace, team: Team, session: Session, images: tuple[Any, Any]
) -> None:
    """Count the epoch as done; the first process tests and saves."""
    if team.rank == 0:
        single.end_epoch(session.progress, session.model, images)
        single.save(run.work / "checkpoint.pt", session)
    else:
        session.progress.epoch, session.progress.step = session.progress.epoch + 1, 0


def publish(run: argparse.Namespace, team: Team, session: Session) -> bool:
    """Have the first process copy the results out; whether they got there."""
    return team.rank > 0 or single.publish(run, session.progress)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = single.make_parser(__doc__)
    parser.set_defaults(work=WORK, out=OUT)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Train as the command line says; 0 when all is done and published."""
    run = parse(argv)
    if torch is None:
        print("torch is missing here: use /opt/lab/venv/bin/python", file=sys.stderr)
        return 2
    team = None
    try:
        team = join()
        published = train(run, team)
    except TrainError as error:
        if team is None or team.rank == 0:
            print(error, file=sys.stderr)
        return 2
    team.meet()
    dist.destroy_process_group()
    return 0 if published else 1


if __name__ == "__main__":
    sys.exit(main())
