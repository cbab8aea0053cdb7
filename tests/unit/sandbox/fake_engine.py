"""An engine that keeps books instead of containers."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox.model import Machine, MetadataSource, MountTarget
from sandbox.settings import Settings


class FakeEngine:
    """Follows the Engine protocol; `calls` tells what it was asked for, in order."""

    def __init__(self, _settings: Settings, metadata: MetadataSource) -> None:
        self.metadata = metadata
        self.machines: list[Machine] = []
        self.targets: list[MountTarget] = []
        self.calls: list[tuple[str, ...]] = []
        self.off: set[str] = set()

    def converge(self, machines: Sequence[Machine]) -> None:
        self.machines = list(machines)
        self.off -= {machine.instance_id for machine in machines if not machine.running}
        self.calls.append(("converge", *(machine.instance_id for machine in machines)))

    def powered_off(self) -> set[str]:
        return set(self.off)

    def reboot(self, instance_id: str) -> None:
        self.calls.append(("reboot", instance_id))

    def create_volume(self, volume_id: str, gib: int, snapshot_id: str | None) -> None:
        self.calls.append(("create_volume", volume_id, str(gib), str(snapshot_id)))

    def delete_volume(self, volume_id: str) -> None:
        self.calls.append(("delete_volume", volume_id))

    def create_snapshot(self, snapshot_id: str, volume_id: str) -> None:
        self.calls.append(("create_snapshot", snapshot_id, volume_id))

    def delete_snapshot(self, snapshot_id: str) -> None:
        self.calls.append(("delete_snapshot", snapshot_id))

    def create_file_system(self, file_system_id: str) -> None:
        self.calls.append(("create_file_system", file_system_id))

    def delete_file_system(self, file_system_id: str) -> None:
        self.calls.append(("delete_file_system", file_system_id))

    def serve_file_systems(self, targets: Sequence[MountTarget]) -> None:
        self.targets = list(targets)
        self.calls.append(("serve_file_systems", *(target.address for target in targets)))

    def create_image(self, image_id: str, instance_id: str) -> str:
        self.calls.append(("create_image", image_id, instance_id))
        return f"gpulab/baked:{image_id}"

    def delete_image(self, image_id: str) -> None:
        self.calls.append(("delete_image", image_id))

    def console_output(self, instance_id: str) -> str:
        return f"console of {instance_id}"

    def close(self) -> None:
        self.calls.append(("close",))

    def destroy(self) -> None:
        self.calls.append(("destroy",))
