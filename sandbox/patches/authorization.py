"""Gaps of IAM policies: a condition is not evaluated, and patterns are taken for regexes.

moto knows StringEquals in trust policies; elsewhere a statement with a condition counts as a
refusal, and `?` in a pattern as an operator. EC2 tells a refusal by another name
(UnauthorizedOperation), and policies that name things of EC2, of the Scheduler, of Budgets, of
EFS or of SSM, or a role that is not there yet, never match. The rights that a call takes beside its
own (tags given at birth, roles handed on) are not asked for, and Budgets' actions bear the names of
its operations. Services that speak JSON (EFS, SSM, service quotas) are answered in XML.

The keys known here: aws:SecureTransport (always true: the sandbox speaks HTTP on loopback where
AWS has TLS), aws:SourceIp, aws:PrincipalArn, aws:PrincipalAccount, aws:username,
aws:RequestedRegion, s3:prefix, s3:delimiter, s3:max-keys, iam:PassedToService, and for EC2 calls
aws:RequestTag/*, and of each thing that they name aws:ResourceTag/* and ec2:ResourceTag/*; for EFS
the first two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from moto.budgets.responses import BudgetsResponse
from moto.core.exceptions import JsonRESTError, _RESTError
from moto.ec2.responses import EC2Response
from moto.efs.responses import EFSResponse
from moto.iam import access_control
from moto.iam.access_control import PermissionResult
from moto.iam.responses import IamResponse
from moto.scheduler.responses import EventBridgeSchedulerResponse
from moto.ssm.responses import SimpleSystemManagerResponse

from sandbox import what_is_asked as asked
from sandbox.conditions import Context, UnknownOperatorError, holds, wildcard_match
from sandbox.patches import patch, placement_groups
from sandbox.settings import Settings

_DEFAULT: Context = {"aws:securetransport": ["true"]}
_context: ContextVar[Context] = ContextVar("condition keys of the request", default=_DEFAULT)


class UnauthorizedOperationError(_RESTError):
    """EC2's word for a refused action."""

    code = 403

    def __init__(self, user_arn: str, action: str) -> None:
        super().__init__(
            "UnauthorizedOperation",
            "You are not authorized to perform this operation."
            f" User: {user_arn} is not authorized to perform: {action}",
        )


def apply(_settings: Settings) -> None:
    """Patch the evaluation of statements."""
    patch(access_control.IAMPolicyStatement, "is_action_permitted", _is_action_permitted)
    patch(access_control.IAMRequest, "_raise_access_denied", _deny)
    patch(access_control.IAMRequest, "_raise_signature_does_not_match", _refuse_json)
    patch(access_control.IAMRequest, "_raise_invalid_access_key", _refuse_json)
    for responses, resource in (
        (EC2Response, _ec2_resource),
        (EventBridgeSchedulerResponse, _schedule),
        (BudgetsResponse, _budget),
        (EFSResponse, _file_system),
        (SimpleSystemManagerResponse, _parameter),
    ):
        setattr(responses, "_determine_resource", resource)  # noqa: B010 - moto asks for it where it is
    patch(IamResponse, "_determine_resource", _iam_resource)


def check_permitted(response: Any, request: Any, resource: str) -> None:
    """Let a request through that is permitted, with all that it takes; else raise its refusal."""
    operation = request._action
    request._action = asked.RENAMED.get(operation, operation)
    for each, keys in _things(response, request) or [(resource, None)]:
        with _request_context(response, request, keys):
            request.check_action_permitted(each)
    for action, other, keys in _beside(response, operation):
        request._action = action
        with _request_context(response, request, keys):
            request.check_action_permitted(other)


def _things(response: Any, request: Any) -> list[tuple[str, dict[str, list[str]] | None]]:
    """Return the things of an EC2 call that is for several, with their tags: each is judged."""
    if request._service != "ec2":
        return []
    form, where = _ec2_form(response), _where(response, "ec2")
    things = asked.ec2_things(response._get_action(), form, where)
    return [(name, _own_tags(response, one)) for one, name in things]


def _beside(response: Any, operation: str) -> Iterator[tuple[str, str, dict[str, list[str]]]]:
    service, _, action = operation.partition(":")
    if service in ("ec2", "iam"):
        form = asked.fields(response.data)
        yield from asked.rights_beside(service, action, form, response.current_account)
    elif operation in ("scheduler:CreateSchedule", "scheduler:UpdateSchedule"):
        handed_on = asked.schedules_role(response.body)
        if handed_on:
            yield handed_on
    elif operation == "elasticfilesystem:CreateFileSystem":
        yield "elasticfilesystem:TagResource", _file_system(response), _efs_tags(response)


@contextmanager
def _request_context(
    response: Any, request: Any, more: Mapping[str, list[str]] | None = None
) -> Iterator[None]:
    """Make a request's condition keys known to the policies evaluated within."""
    arn = request._access_key.arn
    keys: dict[str, list[str]] = {
        "aws:securetransport": ["true"],
        "aws:sourceip": [response.normalized_request.remote_addr or "127.0.0.1"],
        "aws:principalarn": [arn],
        "aws:principalaccount": [response.current_account],
        "aws:requestedregion": [response.region],
    }
    if ":user/" in arn:
        keys["aws:username"] = [arn.rpartition("/")[2]]
    if request._service == "s3":
        args = response.normalized_request.args
        keys |= {f"s3:{n}": [args[n]] for n in ("prefix", "delimiter", "max-keys") if n in args}
    elif request._service == "ec2":
        keys |= _tags(response)
    elif request._service == asked.EFS:
        keys |= _efs_tags(response)
    token = _context.set({**keys, **(more or {})})
    try:
        yield
    finally:
        _context.reset(token)


@contextmanager
def with_instance_tags(tags: Mapping[str, str]) -> Iterator[None]:
    """Make an instance's tags known to the policies evaluated within, beside no request."""
    keys = {f"{p}:resourcetag/{k}".lower(): [v] for k, v in tags.items() for p in ("aws", "ec2")}
    token = _context.set({**_DEFAULT, **keys})
    try:
        yield
    finally:
        _context.reset(token)


def _tags(response: Any) -> dict[str, list[str]]:
    """Return the tags of the one thing that an EC2 call is for, and those that it gives."""
    form = _ec2_form(response)
    given = asked.given_tags(form)
    ids = asked.ec2_ids(form) or _ids_by_name(response, form)
    if len(ids) != 1 or response._get_action() in asked.MADE:
        return given
    return {**given, **_own_tags(response, ids[0])}


def _ids_by_name(response: Any, form: Mapping[str, str]) -> list[str]:
    if form.get("KeyName") in response.ec2_backend.key_pairs:
        return [response.ec2_backend.key_pairs[form["KeyName"]].id]
    if response._get_action() == "DeletePlacementGroup":
        group = placement_groups.known(response.ec2_backend).get(form.get("GroupName", ""))
        return [group["GroupId"]] if group else []
    return []


def _own_tags(response: Any, one: str) -> dict[str, list[str]]:
    return {
        f"{prefix}:resourcetag/{key}".lower(): [value]
        for key, value in response.ec2_backend.tags.get(one, {}).items()
        for prefix in ("aws", "ec2")
    }


def _where(response: Any, service: str) -> str:
    return f"arn:aws:{service}:{response.region}:{response.current_account}"


def _ec2_form(response: Any) -> dict[str, str]:
    """Return the fields of a call, and with them the instance of a profile that it names."""
    form = asked.fields(response.data)
    for association in response.ec2_backend.iam_instance_profile_associations.values():
        if association.association_id == form.get("AssociationId"):
            form["InstanceId"] = association.instance.id
    return form


def _ec2_resource(response: Any) -> str:
    form = _ec2_form(response)
    return asked.ec2_resource(response._get_action(), form, _where(response, "ec2"))


def _iam_resource(original: Callable[..., str], response: Any) -> str:
    form = asked.fields(response.data)
    return asked.iam_resource(form, response.current_account, original(response))


def _schedule(response: Any) -> str:
    return asked.scheduler_resource(response.uri, response.region, response.current_account)


def _budget(response: Any) -> str:
    return asked.budget_resource(response.body, response.current_account)


def _file_system(response: Any) -> str:
    one = asked.file_system(response.uri, response.body, _systems_of_targets(response))
    return asked.file_system_resource(one, response.region, response.current_account)


def _systems_of_targets(response: Any) -> dict[str, str]:
    targets = response.efs_backend.mount_targets_by_id
    return {one: target.file_system_id for one, target in targets.items()}


def _efs_tags(response: Any) -> dict[str, list[str]]:
    """Return the tags of the file system that a call is for, and those that it gives."""
    one = asked.file_system(response.uri, response.body, _systems_of_targets(response))
    tags = response.efs_backend.list_tags_for_resource(one) if one else []
    own = {f"aws:resourcetag/{tag['Key']}".lower(): [tag["Value"]] for tag in tags}
    return {**own, **asked.given_efs_tags(response.body)}


def _parameter(response: Any) -> str:
    return asked.parameter_resource(response.body, response.region, response.current_account)


def _deny(original: Callable[..., Any], request: Any) -> None:
    if request._service == "ec2":
        raise UnauthorizedOperationError(request._access_key.arn, request._action)
    if "X-Amz-Target" in request._headers or request._service == asked.EFS:
        raise JsonRESTError(
            "AccessDeniedException",
            f"User: {request._access_key.arn} is not authorized to perform: {request._action}",
        )
    original(request)


def _refuse_json(original: Callable[..., Any], request: Any, *reason: str) -> None:
    if "X-Amz-Target" in request._headers:
        raise JsonRESTError(
            "UnrecognizedClientException", "The security token included in the request is invalid."
        )
    original(request, *reason)


def _is_action_permitted(
    _original: Callable[..., Any],
    statement: Any,
    action: str,
    resource: str = "*",
    principal: str | None = None,
    incoming_condition_values: dict[str, str] | None = None,
) -> PermissionResult:
    document = statement._statement
    if not _concerns(document, "Action", action, ignore_case=True):
        return PermissionResult.NEUTRAL
    if not _concerns(document, "Resource", resource, ignore_case=False):
        return PermissionResult.NEUTRAL
    if not _is_addressed(statement, principal):
        return PermissionResult.NEUTRAL
    denies = document["Effect"] == "Deny"
    context = {key.lower(): [value] for key, value in (incoming_condition_values or {}).items()}
    try:
        if not holds(document.get("Condition", {}), {**_context.get(), **context}):
            return PermissionResult.NEUTRAL
    except UnknownOperatorError:
        # Of what cannot be judged, the stricter reading.
        return PermissionResult.DENIED if denies else PermissionResult.NEUTRAL
    return PermissionResult.DENIED if denies else PermissionResult.PERMITTED


def _concerns(document: dict[str, Any], element: str, value: str, ignore_case: bool) -> bool:
    if f"Not{element}" in document:
        return not _any_matches(document[f"Not{element}"], value, ignore_case)
    # A trust policy names no resource.
    return element not in document or _any_matches(document[element], value, ignore_case)


def _any_matches(patterns: str | list[str], value: str, ignore_case: bool) -> bool:
    listed = patterns if isinstance(patterns, list) else [patterns]
    return any(wildcard_match(pattern, value, ignore_case) for pattern in listed)


def _is_addressed(statement: Any, principal: str | None) -> bool:
    if statement.is_unknown_principal(statement._statement.get("Principal")):
        return False
    return principal is None or bool(statement._check_principal(principal))
