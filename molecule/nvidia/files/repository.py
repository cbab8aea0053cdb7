"""Make a signed apt repository that mimics NVIDIA's: its layout, names, versions and dependencies.

    repository.py ROOT DISTRIBUTION KERNEL

writes ROOT/<folder>/x86_64/ with InRelease, Packages and small packages of the real names, and in
them programs that answer like the real ones, from what the simulated host below SIMULATED shows.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SIMULATED = "/var/tmp/simulated"  # noqa: S108  in a container that is the test's own
VERSIONS = ("580.95.05", "590.48.01", "595.71.05")
BRANCHES = ("580", "590", "595")
SMI = f"""#!/bin/sh
version={SIMULATED}/proc/driver/nvidia/version
loaded=$(sed -n 's/.*x86_64  *\\([0-9.]*\\) .*/\\1/p' "$version" 2>/dev/null)
if [ -z "$loaded" ]; then
  echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
  exit 9
fi
if [ "$loaded" != "@VERSION@" ]; then
  echo "Failed to initialize NVML: Driver/library version mismatch"
  exit 18
fi
count=$(cat {SIMULATED}/count 2>/dev/null || echo 1)
for index in $(seq 0 $((count - 1))); do
  echo "$index, Tesla T4, $loaded, 15360, 3, 0, 7.5, P8, 27, Enabled, 0"
done
"""
DKMS = f"""#!/bin/sh
for image in {SIMULATED}/boot/vmlinuz-*; do
  kernel=${{image#*vmlinuz-}}
  grep -qx "$kernel" {SIMULATED}/without_module 2>/dev/null && continue
  echo "nvidia/@VERSION@, $kernel, x86_64: installed"
done
"""
NVCC = """#!/bin/sh
[ "$1" != --version ] || { echo "Cuda compilation tools, release @TOOLKIT@, V@TOOLKIT@.1"; exit; }
for last; do :; done
echo "$@" >>/var/tmp/nvcc.log
printf '#!/bin/sh\\nexit 0\\n' >add && chmod +x add && test -f "$last"
"""
UNIT = """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
"""

Fields = dict[str, str]
Files = dict[str, tuple[str, int]]


def driver(version: str) -> list[tuple[str, str, Fields, Files]]:
    """List one driver's packages under Debian's and under Ubuntu's names."""
    exact, package = f"(= {version}-1)", f"{version}-1"
    branch = version.partition(".")[0]
    suffix = f"-{branch}" if int(branch) < 590 else ""  # noqa: PLR2004  NVIDIA's own rule
    smi: Files = {"usr/bin/nvidia-smi": (SMI.replace("@VERSION@", version), 0o755)}
    dkms: Files = {"usr/sbin/dkms": (DKMS.replace("@VERSION@", version), 0o755)}
    unit: Files = {"usr/lib/systemd/system/nvidia-persistenced.service": (UNIT, 0o644)}
    fabric: Files = {"usr/lib/systemd/system/nvidia-fabricmanager.service": (UNIT, 0o644)}
    either = f"nvidia-kernel-open-dkms {exact} | nvidia-kernel-dkms {exact}"
    compute, utils = f"libnvidia-compute{suffix}", f"nvidia-utils{suffix}"
    names = [
        (
            "nvidia-kernel-open-dkms",
            {"Conflicts": "nvidia-kernel-dkms, nvidia-kernel-common-x"},
            dkms,
        ),
        ("nvidia-kernel-dkms", {"Conflicts": "nvidia-kernel-open-dkms"}, dkms),
        ("libcuda1", {}, {}),
        (
            "nvidia-driver-cuda",
            {"Depends": f"libcuda1 {exact}, {either}", "Conflicts": "nvidia-smi"},
            smi,
        ),
        ("nvidia-persistenced", {}, unit),
        ("nvidia-fabricmanager", {}, fabric),
        (f"nvidia-dkms{suffix}-open", {"Conflicts": f"nvidia-dkms{suffix}"}, dkms),
        (f"nvidia-dkms{suffix}", {"Conflicts": f"nvidia-dkms{suffix}-open"}, dkms),
        (compute, {}, {}),
        (utils, {"Depends": f"{compute} {exact}"}, smi),
    ]
    return [(name, package, fields, files) for name, fields, files in names]


def pin(branch: str) -> tuple[str, str, Fields, Files]:
    """Return the pinning package of a branch, of which one can be installed."""
    text = f"Package: *nvidia* libcuda1\nPin: version {branch}.*\nPin-Priority: 1000\n"
    only_one = dict.fromkeys(("Provides", "Conflicts", "Replaces"), "nvidia-driver-pinning")
    where = f"etc/apt/preferences.d/nvidia-driver-pinning-{branch}"
    return f"nvidia-driver-pinning-{branch}", "1.0-1", only_one, {where: (text, 0o644)}


def others(kernel: str, meta: str) -> list[tuple[str, str, Fields, Files]]:
    """List the kernel's headers, a Fabric Manager that is too new, and toolkits."""
    toolkits = [
        (
            f"cuda-toolkit-{version.replace('.', '-')}", f"{version}.1-1", {},
            {f"usr/local/cuda-{version}/bin/nvcc": (NVCC.replace("@TOOLKIT@", version), 0o755)},
        )
        for version in ("12.9", "13.0")
    ]  # fmt: skip
    return [
        (f"linux-headers-{kernel}", "999-1", {}, {}),
        (meta, "999-1", {"Depends": f"linux-headers-{kernel}"}, {}),
        ("nvidia-fabricmanager", "610.43.02-1", {}, {}),
        *toolkits,
    ]


def build(folder: Path, name: str, version: str, fields: Fields, files: Files) -> None:
    """Write one package."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        root.chmod(0o755)
        (root / "DEBIAN").mkdir()
        control = {
            "Package": name, "Version": version, "Architecture": "all", "Section": "NVIDIA",
            "Maintainer": "molecule <root@localhost>", **fields,
            "Description": f"stands for {name}",
        }  # fmt: skip
        text = "".join(f"{key}: {value}\n" for key, value in control.items())
        (root / "DEBIAN/control").write_text(text)
        conffiles = [f"/{path}\n" for path in files if path.startswith("etc/")]
        if conffiles:
            (root / "DEBIAN/conffiles").write_text("".join(conffiles))
        for path, (content, mode) in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content)
            (root / path).chmod(mode)
        deb = folder / f"{name}_{version}_all.deb"
        subprocess.run(
            ["dpkg-deb", "-Znone", "--root-owner-group", "--build", root, deb],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip


def index(folder: Path) -> None:
    """Write Packages and a signed InRelease."""
    entries = []
    for deb in sorted(folder.glob("*.deb")):
        control = subprocess.run(
            ["dpkg-deb", "--field", deb], capture_output=True, text=True, check=True
        ).stdout
        total = hashlib.sha256(deb.read_bytes()).hexdigest()
        size = deb.stat().st_size
        entries.append(f"{control}Filename: ./{deb.name}\nSize: {size}\nSHA256: {total}\n")
    packages = "\n".join(entries)
    (folder / "Packages").write_text(packages)
    total = hashlib.sha256(packages.encode()).hexdigest()
    (folder / "Release").write_text(
        "Origin: NVIDIA\nLabel: NVIDIA CUDA\nDate: Sun, 01 Nov 2026 00:00:00 UTC\n"
        f"SHA256:\n {total} {len(packages.encode())} Packages\n"
    )
    sign(folder, "lab-test")


def sign(folder: Path, key: str) -> None:
    """Sign the Release with a key, which is made where it is not there."""
    home = Path("/var/tmp/gnupg")  # noqa: S108  in a container that is the test's own
    home.mkdir(mode=0o700, exist_ok=True)
    os.environ["GNUPGHOME"] = str(home)
    gpg = ["gpg", "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    if subprocess.run(["gpg", "--list-keys", key], capture_output=True, check=False).returncode:
        subprocess.run([*gpg, "--quick-gen-key", key, "ed25519", "sign", "never"], check=True)
    clear = ["--local-user", key, "--output", folder / "InRelease", "--clearsign"]
    subprocess.run([*gpg, *clear, folder / "Release"], check=True)


def keyring(folder: Path, name: str) -> None:
    """Build the package that brings key and source, beside the others, as NVIDIA does."""
    key = subprocess.run(
        ["gpg", "--armor", "--export", "lab-test"], capture_output=True, check=True
    )
    source = f"deb [signed-by=/usr/share/keyrings/cuda-archive-keyring.asc] file:{folder} /\n"
    files = {
        "usr/share/keyrings/cuda-archive-keyring.asc": (key.stdout.decode(), 0o644),
        f"etc/apt/sources.list.d/cuda-{name}-x86_64.list": (source, 0o644),
    }
    build(folder, "cuda-keyring", "1.1-1", {}, files)


def main() -> None:
    """Make the repository, or sign it with another key (--sign FOLDER KEY)."""
    if sys.argv[1] == "--sign":
        sign(Path(sys.argv[2]), sys.argv[3])
        return
    name, kernel, meta = sys.argv[2:5]
    folder = Path(sys.argv[1], name, "x86_64")
    folder.mkdir(parents=True)
    packages = [each for version in VERSIONS for each in driver(version)]
    for each in [*packages, *map(pin, BRANCHES), *others(kernel, meta)]:
        build(folder, *each)
    index(folder)
    keyring(folder, name)


main()
