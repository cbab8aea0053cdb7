"""The table: which GPUs EC2 has, and which driver, CUDA and torch run on them. Data only.

A new instance type, driver branch or torch is a line here; `gpu_matrix` decides by it. A compute
capability is (major, minor), a version a tuple of numbers, memory is in GiB for one GPU.
docs/gpu_stack.md says where each figure is from.
"""

from __future__ import annotations

from typing import NamedTuple

Version = tuple[int, ...]


class Gpu(NamedTuple):
    """One model: its compute capability, memory in GiB and PCI device ids (four hex digits)."""

    capability: Version
    memory: float
    devices: tuple[str, ...] = ()


class Line(NamedTuple):
    """What one compute capability runs on.

    `modules` are the flavours of the kernel module that drive it, the best first; `first` and
    `last` the oldest and newest driver branch (0: no end yet); `cuda` the newest CUDA (empty: no
    end yet); `nvcc` the first toolkit whose compiler knows it.
    """

    architecture: str
    modules: tuple[str, ...]
    first: int
    last: int
    cuda: Version
    nvcc: Version


class Torch(NamedTuple):
    """A release: its torchvision, oldest Python, builds (the one of PyPI first)."""

    torchvision: str
    python: Version
    builds: tuple[str, ...]


class Build(NamedTuple):
    """A build of torch: oldest driver, lowest and highest compute capability."""

    driver: Version
    lowest: Version
    highest: Version


class Distribution(NamedTuple):
    """A release of a distribution: NVIDIA's folder for it, Python, its own drivers by flavour.

    `first` is the oldest branch in NVIDIA's folder, `keyrings` the SHA-256 of the keyring package
    there by machine.
    """

    folder: str
    python: Version
    own: dict[str, str]
    first: int
    keyrings: dict[str, str]


GPUS = {
    "K80": Gpu((3, 7), 12, ("102d",)),
    "M60": Gpu((5, 2), 8, ("13f2",)),
    "V100": Gpu((7, 0), 16, ("1db1", "1db4")),
    "V100-32": Gpu((7, 0), 32, ("1db5", "1db6")),
    "T4": Gpu((7, 5), 16, ("1eb8",)),
    "T4g": Gpu((7, 5), 16, ("1eb4",)),
    "A100": Gpu((8, 0), 40, ("20b0",)),
    "A100-80": Gpu((8, 0), 80, ("20b2",)),
    "A10G": Gpu((8, 6), 22.4, ("2237",)),
    "L4": Gpu((8, 9), 22.4, ("27b8",)),
    "L40S": Gpu((8, 9), 44.7, ("26b9",)),
    "H100": Gpu((9, 0), 80, ("2330",)),
    "H200": Gpu((9, 0), 141, ("2335",)),
    "B200": Gpu((10, 0), 179.1, ("2901",)),
    "B300": Gpu((10, 3), 268.6, ("3182",)),
    # Its device id is not known here; nvidia-smi tells its capability once the driver runs.
    "RTX PRO 4500": Gpu((12, 0), 32),
    "RTX PRO 6000": Gpu((12, 0), 96, ("2bb5",)),
}

_ONE = ("xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge")
_FOUR_TO_EIGHT = {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}
_BLACKWELL_SIZES = {"2xlarge": 1, "4xlarge": 1, "8xlarge": 1,
                    "12xlarge": 2, "24xlarge": 4, "48xlarge": 8}  # fmt: skip
# Family -> GPU and count by size.
FAMILIES: dict[str, tuple[str, dict[str, int]]] = {
    "g4dn": ("T4", dict.fromkeys(_ONE, 1) | {"12xlarge": 4, "metal": 8}),
    "g5": ("A10G", dict.fromkeys(_ONE, 1) | _FOUR_TO_EIGHT),
    "g5g": ("T4g", dict.fromkeys(_ONE[:4], 1) | {"16xlarge": 2, "metal": 2}),
    "g6": ("L4", dict.fromkeys(_ONE, 1) | _FOUR_TO_EIGHT),
    "gr6": ("L4", {"4xlarge": 1, "8xlarge": 1}),
    "g6f": ("L4", {"large": 1, "xlarge": 1, "2xlarge": 1, "4xlarge": 1}),
    "gr6f": ("L4", {"4xlarge": 1}),
    "g6e": ("L40S", dict.fromkeys(_ONE, 1) | _FOUR_TO_EIGHT),
    "g7": ("RTX PRO 4500", _BLACKWELL_SIZES),
    "g7e": ("RTX PRO 6000", _BLACKWELL_SIZES),
    "p3dn": ("V100-32", {"24xlarge": 8}),
    "p4d": ("A100", {"24xlarge": 8}),
    "p4de": ("A100-80", {"24xlarge": 8}),
    "p5": ("H100", {"4xlarge": 1, "48xlarge": 8}),
    "p5e": ("H200", {"48xlarge": 8}),
    "p5en": ("H200", {"48xlarge": 8}),
    "p6-b200": ("B200", {"48xlarge": 8}),
    "p6-b300": ("B300", {"48xlarge": 8}),
}
# Parts of a GPU: memory in GiB of the part. They run on NVIDIA's GRID driver alone.
FRACTIONS = {
    "g6f.large": 2.8, "g6f.xlarge": 2.8, "g6f.2xlarge": 5.6, "g6f.4xlarge": 11.2,
    "gr6f.4xlarge": 11.2,
}  # fmt: skip
# Families that AWS no longer offers (or whose GPU is not NVIDIA's), with what to take instead.
RETIRED = {
    "p2": ("K80", "g4dn"), "g2": ("GRID K520", "g4dn"), "g3": ("M60", "g4dn"),
    "g3s": ("M60", "g4dn"), "p3": ("V100", "g5"), "g4ad": ("Radeon Pro V520 of AMD", "g4dn"),
}  # fmt: skip
# NVSwitch joins the GPUs of these; without Fabric Manager CUDA ends with error 802.
FABRIC = ("p4d.", "p4de.", "p5.48xlarge", "p5e.", "p5en.", "p6-b200.", "p6-b300.")
# NVLink 5, whose subnet manager is a package of its own.
SUBNET_MANAGER = ("p6-b200.", "p6-b300.")

_OPEN = ("open", "proprietary")
CAPABILITIES: dict[Version, Line] = {
    (3, 7): Line("Kepler", ("proprietary",), 0, 470, (11, 8), (6, 5)),
    (5, 2): Line("Maxwell", ("proprietary",), 0, 580, (12, 9), (6, 5)),
    (7, 0): Line("Volta", ("proprietary",), 384, 580, (12, 9), (9, 0)),
    (7, 5): Line("Turing", _OPEN, 410, 0, (), (10, 0)),
    (8, 0): Line("Ampere", _OPEN, 450, 0, (), (11, 0)),
    (8, 6): Line("Ampere", _OPEN, 470, 0, (), (11, 1)),
    (8, 9): Line("Ada Lovelace", _OPEN, 525, 0, (), (11, 8)),
    (9, 0): Line("Hopper", _OPEN, 525, 0, (), (11, 8)),
    (10, 0): Line("Blackwell", ("open",), 570, 0, (), (12, 8)),
    (10, 3): Line("Blackwell", ("open",), 580, 0, (), (12, 9)),
    (12, 0): Line("Blackwell", ("open",), 570, 0, (), (12, 8)),
}
# The last branch that still has a proprietary module.
LAST_PROPRIETARY = 610
# Driver branches that NVIDIA's repository has a pinning package for, with their CUDA.
BRANCHES = {570: (12, 8), 575: (12, 9), 580: (13, 0), 590: (13, 1), 595: (13, 2), 610: (13, 3)}
# It alone runs everything from Volta to Blackwell, and CUDA 13 with it.
DEFAULT_BRANCH = 580
# From this branch on, Ubuntu's packages in NVIDIA's repository carry no branch in their names.
UNSUFFIXED = 590
# Oldest driver by the major version of CUDA.
CUDA_DRIVERS: dict[int, Version] = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580,)}

# Newest first.
TORCH = {
    "2.15.0": Torch("0.29.2", (3, 11), ("cu132", "cu130", "cpu")),
    "2.14.1": Torch("0.29.1", (3, 10), ("cu130", "cu132", "cu126", "cpu")),
    "2.14.0": Torch("0.29.0", (3, 10), ("cu130", "cu132", "cu126", "cpu")),
    "2.13.0": Torch("0.28.0", (3, 10), ("cu130", "cu132", "cu126", "cpu")),
    "2.12.1": Torch("0.27.1", (3, 10), ("cu130", "cu126", "cpu")),
    "2.12.0": Torch("0.27.0", (3, 10), ("cu130", "cu126", "cpu")),
    "2.11.0": Torch("0.26.0", (3, 10), ("cu130", "cu128", "cu126", "cpu")),
    "2.10.0": Torch("0.25.0", (3, 10), ("cu128", "cu130", "cu126", "cpu")),
    "2.9.1": Torch("0.24.1", (3, 10), ("cu128", "cu130", "cu126", "cpu")),
    "2.8.0": Torch("0.23.0", (3, 9), ("cu128", "cu126", "cpu")),
    "2.7.1": Torch("0.22.1", (3, 9), ("cu126", "cu128", "cpu")),
    "2.6.0": Torch("0.21.0", (3, 9), ("cu124", "cu126", "cpu")),
}
BUILDS = {
    "cu124": Build((525, 60, 13), (5, 0), (9, 0)),
    "cu126": Build((525, 60, 13), (5, 0), (9, 0)),
    "cu128": Build((525, 60, 13), (7, 5), (12, 0)),
    "cu130": Build((580,), (7, 5), (12, 0)),
    "cu132": Build((580,), (7, 5), (12, 0)),
}
# Up to this torch the cu128 build has Volta's code as well.
VOLTA_IN_CU128: Version = (2, 10, 0)

DISTRIBUTIONS = {
    "Debian_12": Distribution(
        "debian12", (3, 11), {"proprietary": "535.261.03", "open": "535.261.03"}, 570,
        {"x86_64": "e7f219eab6fe4819cdb5c15b98233dc3420302d9c00883219cd3d896857cf48d",
         "sbsa": "bf2f53b1a19259501119f732bdef2699f8c80c69a18e6a78dad78d67d96766dc"},
    ),
    # The open module of this release does not build on its current kernel.
    "Debian_13": Distribution(
        "debian13", (3, 13), {"proprietary": "550.163.01"}, 580,
        {"x86_64": "dd28f1f6ba0038180d6b23f846cefca1e3de4c9327751665241370bacea452a1"},
    ),
    "Ubuntu_22": Distribution(
        "ubuntu2204", (3, 10), {"proprietary": "580", "open": "580"}, 570,
        {"x86_64": "d93190d50b98ad4699ff40f4f7af50f16a76dac3bb8da1eaaf366d47898ff8df",
         "sbsa": "36d1aed84dfcf93ee9a0212d149f1c4187db92e03ab96a759ec0689aa438fd9e"},
    ),
    "Ubuntu_24": Distribution(
        "ubuntu2404", (3, 12), {"proprietary": "580", "open": "580"}, 570,
        {"x86_64": "d2a6b11c096396d868758b86dab1823b25e14d70333f1dfa74da5ddaf6a06dba",
         "sbsa": "6ea7d2737648936820e85677177957a0f6521b840d98eb0bbae0a4f003fa7249"},
    ),
}  # fmt: skip
