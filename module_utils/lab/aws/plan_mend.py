"""The steps that put right what was changed by hand on one instance, host or worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .preflight import Target
from .steps import Step
from .things import Instance, Seen

HOP_LIMIT = 1  # the host itself; containers on it get no credentials


def tags(one: Instance, wanted: Mapping[str, str]) -> Iterator[Step]:
    """Give it the tags that it lacks."""
    missing = {key: value for key, value in wanted.items() if one.tags.get(key) != value}
    if missing:
        yield Step(
            "tag_host",
            f"Tag {one.id} with {', '.join(sorted(missing))}",
            {"tags": missing, "id": one.id},
            before="".join(f"tag {k}: {one.tags.get(k, '')}\n" for k in sorted(missing)),
            after="".join(f"tag {k}: {missing[k]}\n" for k in sorted(missing)),
        )


def settings(target: Target, there: Seen, one: Instance, name: str) -> Iterator[Step]:
    """Put right its metadata service, its security groups and its instance profile."""
    where = {"id": one.id}
    if (one.tokens, one.hop_limit) != ("required", HOP_LIMIT):
        yield Step(
            "require_tokens",
            f"Require version 2 of the metadata service on {one.id}",
            where,
            before=f"instance {name}: metadata tokens {one.tokens}, hops {one.hop_limit}",
            after=f"instance {name}: metadata tokens required, hops {HOP_LIMIT}",
        )
    group = there.group(target.vpc_id)
    if group is None or one.group_ids != (group.id,):
        common = target.names.common
        yield Step(
            "set_groups",
            f"Put {one.id} in security group {common} alone",
            where,
            before=f"instance {name}: groups {', '.join(one.group_ids)}",
            after=f"instance {name}: group {common}",
        )
    if one.profile != target.names.role:
        yield Step(
            "set_profile",
            f"Give {one.id} the instance profile {target.names.role}",
            where,
            before=f"instance {name}: instance profile {one.profile or 'none'}",
            after=f"instance {name}: instance profile {target.names.role}",
        )
