"""The machines of the sandbox: systemd containers, loop devices, addresses and metadata."""

from sandbox.engine.engine import DockerEngine

__all__ = ["DockerEngine"]
