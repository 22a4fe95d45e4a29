"""What `docker stack deploy` does with the keys of a compose file, from the types of its own loader.

Source: docker/cli, cli/compose/types/types.go (`UnsupportedProperties`, `DeprecatedProperties`, `ForbiddenProperties`)
and cli/compose/schema/data/config_schema_v3.*.json, which refuses every key it does not name (`profiles`, `pids`).
`tmpfs` was found by trying: Docker 20.10 and 28.2 leave it out of the service and say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

IGNORED = {
    "build", "cgroupns_mode", "cgroup_parent", "devices", "domainname", "external_links", "ipc", "links", "mac_address",
    "network_mode", "pid", "privileged", "restart", "security_opt", "shm_size", "tmpfs", "userns_mode",
}  # fmt: skip
DEPRECATED = {"container_name", "expose"}
REJECTED = {
    "extends", "volume_driver", "volumes_from", "cpu_quota", "cpu_shares", "cpuset", "mem_limit", "memswap_limit",
}  # fmt: skip
UNKNOWN = {
    "annotations", "attach", "blkio_config", "cpus", "cpu_count", "cpu_percent", "cpu_period", "cpu_rt_period",
    "cpu_rt_runtime", "develop", "device_cgroup_rules", "gpus", "group_add", "label_file", "mem_reservation",
    "mem_swappiness", "models", "oom_kill_disable", "pids_limit", "platform", "post_start", "pre_stop", "profiles",
    "provider", "pull_policy", "runtime", "scale", "storage_opt", "use_api_socket", "uts",
}  # fmt: skip
"""Compose knows them, the schema of version 3 does not: the whole file is refused."""
LIMITS = {"cpus", "memory"}
"""What `deploy.resources` may hold in schema 3.8 besides generic resources; Docker 20.10 and 28 refuse `pids`."""


def findings(compose: dict[str, Any]) -> Iterator[str]:
    """One sentence for each key of `compose` (a parsed file) that a Swarm would ignore or refuse."""
    version = str(compose.get("version", ""))
    if not version.startswith("3."):
        yield f"version: expected '3.x', which Docker 20.10 needs to know the schema, got {version!r}"
    for name, service in compose.get("services", {}).items():
        yield from _service(name, service)
    for name, service in compose.get("services", {}).items():
        for port in service.get("ports", []):
            if str(port).count(":") > 1 and not str(port).startswith("${"):
                yield f"services.{name}.ports: {port!r} names an address, which a Swarm ignores"
    for name, config in compose.get("configs", {}).items():
        yield f"configs.{name}: docker-compose 1.29 ignores configs ({sorted(config)}); bake the file into an image"


def _service(name: str, service: dict[str, Any]) -> Iterator[str]:
    for key in service:
        for what, keys in (
            ("is ignored", IGNORED),
            ("is deprecated", DEPRECATED),
            ("is rejected", REJECTED),
            ("is not in the schema, so the file is rejected", UNKNOWN),
        ):
            if key in keys:
                yield f"services.{name}.{key} {what} by docker stack deploy"
    if isinstance(service.get("depends_on"), dict):
        yield f"services.{name}.depends_on must be a list for docker stack deploy, got a map"
    if "image" not in service:
        yield f"services.{name} needs an image: a Swarm builds none"
    for volume in service.get("volumes", []):
        source = volume.get("source", "") if isinstance(volume, dict) else str(volume)
        if source.startswith((".", "/", "~")):
            yield f"services.{name}.volumes: {volume!r} is a path of one node"
    for kind, values in service.get("deploy", {}).get("resources", {}).items():
        for key in set(values) - LIMITS:
            yield f"services.{name}.deploy.resources.{kind}.{key} is not in the schema, so the file is rejected"
