"""Proves that torch computes rightly on the CPU and on every GPU, in seconds and fairly.

Speed is told and never judged. The reference of a convolution is its definition, written out as a
sum over the kernel in double precision and differentiated by autograd through plain products and
sums. A GPU that is there and that torch does not use is a failure with the reason found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from . import gpu, gpu_reasons

TOLERANCE = 1e-3  # single precision over 16 channels and 9 taps, with room for cuDNN's order
HALF_TOLERANCE = 2e-2  # bf16 keeps 8 bits
SIZE = 2048  # of the matrices compared: 17 GFLOP, a few milliseconds on a GPU
TIMED = 4096  # of those timed: an H100 is at a quarter of its speed with smaller ones
RANKS_TIMEOUT_S = 60
BF16_FROM = 8  # the major compute capability that has bf16 in hardware

# In the words of CUDA, of torch's allocator and of its libraries.
OUT_OF_MEMORY = "out of memory"

Check = tuple[str, str]


class WrongError(Exception):
    """A result that is not what it must be."""


def main() -> None:
    """Print one JSON object a line for each thing looked at."""
    try:
        torch, torchvision = import_module("torch"), import_module("torchvision")
    except ImportError as error:
        report("torch on the CPU", "failed", f"{sys.executable}: {error}")
        return
    report("torch on the CPU", *on_the_cpu(torch))
    report("torchvision fits torch", *operator(torch, torchvision))
    report("torch on the GPU", *on_the_gpus(torch, gpu.read_host(_root())))


def report(check: str, status: str, detail: str) -> None:
    """Print one result."""
    print(json.dumps({"check": check, "status": status, "detail": detail}), flush=True)


def _root() -> Path:
    """Where the host is looked at; role nvidia says so for a simulated one."""
    try:
        return Path(json.loads(Path("/etc/lab/nvidia.json").read_text())["root"])
    except OSError:
        return Path("/")


# --- Whole checks -------------------------------------------------------------------------------


def on_the_cpu(torch: Any) -> Check:
    """Compare a convolution and its gradients on the CPU with the reference."""
    start = time.perf_counter()
    try:
        worst = convolution(torch, "cpu")
    except WrongError as error:
        return "failed", str(error)
    seconds = time.perf_counter() - start
    return "ok", f"torch {torch.__version__}, convolution off by {worst:.0e}, {seconds:.2f} s"


def operator(torch: Any, torchvision: Any) -> Check:
    """Run a compiled operator of torchvision: one built for another torch has none."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
    try:
        kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    except (RuntimeError, AttributeError) as error:
        return "failed", f"torchvision {torchvision.__version__}: {str(error).splitlines()[0]}"
    if kept != [0, 2]:
        return "failed", f"nms kept {kept} instead of [0, 2]"
    return "ok", f"torchvision {torchvision.__version__}"


def on_the_gpus(torch: Any, host: gpu.Host) -> Check:
    """Count the GPUs, look at their architectures, compute on each and between them."""
    if not host.gpus:
        return "skipped", "no GPU"
    why = gpu_reasons.reason(host, seen(torch))
    if why:
        return "failed", why
    count = torch.cuda.device_count()
    devices = [f"cuda:{number}" for number in range(count)]
    try:
        told = [compute(torch, device, _has_bf16(torch, device)) for device in devices]
        if count > 1:
            told.append(between(torch, devices, "nccl"))
    except (WrongError, RuntimeError) as error:
        said = " ".join(str(error).split())[:500]
        return ("skipped", full(host)) if OUT_OF_MEMORY in said else ("failed", said)
    return "ok", f"{count} x {torch.cuda.get_device_name(0)}: " + "; ".join(dict.fromkeys(told))


def seen(torch: Any) -> gpu_reasons.Torch:
    """Ask torch what it sees, and for its own words where it sees nothing."""
    available, error = bool(torch.cuda.is_available()), ""
    if not available and torch.version.cuda:
        try:
            torch.cuda.init()
        except RuntimeError as said:
            error = " ".join(str(said).split())[:300]
    return gpu_reasons.Torch(
        version=str(torch.__version__),
        cuda=torch.version.cuda or "",
        architectures=tuple(torch.cuda.get_arch_list()) if available else (),
        available=available,
        count=int(torch.cuda.device_count()) if available else 0,
        error=error,
        hidden=os.environ.get("CUDA_VISIBLE_DEVICES"),
    )


def full(host: gpu.Host) -> str:
    """Say how full the GPUs are, MiB: a training that takes all of one is no fault."""
    used = ", ".join(f"{each['memory.used']} of {each['memory.total']}" for each in host.smi.gpus)
    return (
        f"no GPU memory is free to compute in ({used} MiB used): see nvidia-smi, and prove it"
        " again by: ansible-playbook playbooks/verify_host.yml"
    )


def _has_bf16(torch: Any, device: str) -> bool:
    return int(torch.cuda.get_device_capability(device)[0]) >= BF16_FROM


# --- Computing ----------------------------------------------------------------------------------


def compute(torch: Any, device: str, bf16: bool) -> str:
    """Multiply, convolve, and multiply in bf16 where hardware does. Raises WrongError."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    told = [f"fp32 {multiply(torch, device, torch.float32, TOLERANCE):.1f} TFLOP/s"]
    told.append(f"convolution off by {convolution(torch, device):.0e}")
    if bf16:
        told.append(f"bf16 {multiply(torch, device, torch.bfloat16, HALF_TOLERANCE):.1f} TFLOP/s")
    return ", ".join(told)


def multiply(torch: Any, device: str, kind: Any, tolerance: float) -> float:
    """Compare a product on a device with the CPU's; its speed in TFLOP/s. Raises WrongError."""
    generator = torch.Generator().manual_seed(2)
    left, right = (torch.randn(SIZE, SIZE, generator=generator) for _ in range(2))
    there, other = left.to(device, kind), right.to(device, kind)
    found = there @ other  # the first one warms up
    _compare(f"matrix product in {kind} on {device}", found, left @ right, tolerance)
    return speed(torch, device, kind)


def speed(torch: Any, device: str, kind: Any) -> float:
    """Time products of large matrices, TFLOP/s."""
    left, right = (torch.randn(TIMED, TIMED, device=device, dtype=kind) for _ in range(2))
    left @ right  # warms up
    _wait(torch, device)
    start = time.perf_counter()
    for _ in range(3):
        left @ right
    _wait(torch, device)
    return 3 * 2 * TIMED**3 / (time.perf_counter() - start) / 1e12


def convolution(torch: Any, device: str) -> float:
    """Compare a convolution forward and backward with the reference. Raises WrongError."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(4, 16, 32, 32, generator=generator, dtype=torch.float64)
    kernel = torch.randn(8, 16, 3, 3, generator=generator, dtype=torch.float64)
    expected = _results(torch, image, kernel, _by_definition)
    found = _results(torch, image.float().to(device), kernel.float().to(device), torch.conv2d)
    return max(
        _compare(f"{name} of the convolution on {device}", value, expected[name], TOLERANCE)
        for name, value in found.items()
    )


def _results(
    torch: Any, image: Any, kernel: Any, function: Callable[[Any, Any], Any]
) -> dict[str, Any]:
    image, kernel = image.clone().requires_grad_(), kernel.clone().requires_grad_()
    output = function(image, kernel)
    torch.tanh(output).sum().backward()
    return {
        "output": output.detach(),
        "gradient of the image": image.grad,
        "gradient of the kernel": kernel.grad,
    }


def _by_definition(image: Any, kernel: Any) -> Any:
    taps, size = kernel.shape[-1], image.shape[-1] - kernel.shape[-1] + 1
    total = 0
    for row in range(taps):
        for column in range(taps):
            window = image[:, None, :, row : row + size, column : column + size]
            total = total + (window * kernel[None, :, :, row, column, None, None]).sum(2)
    return total


def _compare(what: str, found: Any, expected: Any, tolerance: float) -> float:
    got, want = found.double().cpu(), expected.double()
    if not bool(got.isfinite().all()):
        raise WrongError(f"{what} is not finite")
    worst = float((got - want).abs().max() / want.abs().max())
    if worst > tolerance:
        raise WrongError(f"{what} is off by {worst:.1e} (at most {tolerance})")
    return worst


def _wait(torch: Any, device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


# --- Between GPUs -------------------------------------------------------------------------------


def between(torch: Any, devices: list[str], backend: str) -> str:
    """Copy from each device to the next, and sum over all of them. Raises WrongError."""
    block = torch.arange(1 << 20, dtype=torch.float32)
    there = block.to(devices[0])
    for device in [*devices[1:], devices[0]]:
        there = there.to(device)
    if not bool((there.cpu() == block).all()):
        raise WrongError(f"a block copied over {', '.join(devices)} came back changed")
    start = time.perf_counter()
    all_reduce(len(devices), backend)
    return f"copies and all_reduce over {len(devices)}, {time.perf_counter() - start:.1f} s"


def all_reduce(count: int, backend: str) -> None:
    """Let one process for each device add its number to all others. Raises WrongError."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", f"{__package__}.smoke", "--rank"]
        ranks = [
            subprocess.Popen(
                [*command, str(rank), str(count), backend, f"file://{folder}/meet"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for rank in range(count)
        ]  # fmt: skip
        said = []
        try:
            for rank in ranks:
                text, _ = rank.communicate(timeout=RANKS_TIMEOUT_S)
                if rank.returncode:
                    said.append(text.strip().splitlines()[-1] if text.strip() else "it ended")
        except subprocess.TimeoutExpired:
            raise WrongError(f"all_reduce by {backend} took {RANKS_TIMEOUT_S} s: no end") from None
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
    if said:
        raise WrongError(f"all_reduce by {backend}: {said[0]}")


def one_rank(rank: int, count: int, backend: str, meet: str) -> None:
    """Be one of the processes of `all_reduce`; ends with a sentence where the sum is wrong."""
    torch, distributed = import_module("torch"), import_module("torch.distributed")
    device = "cpu" if backend == "gloo" else f"cuda:{rank}"
    if device != "cpu":
        torch.cuda.set_device(rank)
    distributed.init_process_group(backend, init_method=meet, rank=rank, world_size=count)
    value = torch.full((1024,), float(rank + 1), device=device)
    distributed.all_reduce(value)
    wanted = count * (count + 1) / 2
    distributed.destroy_process_group()
    if not bool((value.cpu() == wanted).all()):
        sys.exit(f"the sum of 1 to {count} is {float(value[0])}")


if __name__ == "__main__":
    if "--rank" in sys.argv:
        one_rank(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5])
    else:
        main()
