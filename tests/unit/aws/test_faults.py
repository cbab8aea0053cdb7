"""AWS out of order, with boto3's own retries: each ends in one sentence, within 90 s of waiting."""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ansible.module_utils.lab.aws import session
from ansible.module_utils.lab.aws.lock import lock
from ansible.module_utils.lab.aws.variables import Spec
from ansible.module_utils.lab.errors import LabError
from botocore import endpoint
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ConnectTimeoutError
from moto.core.botocore_stubber import BotocoreStubber, MockRawResponse
from moto.ec2.responses.instances import InstanceResponse

from sandbox.patches.launch import _once_per_token as launch_once
from tests.unit.aws.kit import Faulty, boto, build, look, once

LIMIT_S = 90


class Fault(NamedTuple):
    """An operation, and the code and HTTP status with which AWS refuses it."""

    service: str
    operation: str
    code: str
    status: int


# One of each kind of wire format, reading and writing.
THROTTLED = [
    Fault("ec2", "DescribeInstances", "RequestLimitExceeded", 503),
    Fault("ec2", "RunInstances", "RequestLimitExceeded", 503),
    Fault("iam", "CreateRole", "Throttling", 400),
    Fault("s3", "CreateBucket", "SlowDown", 503),
]
EXPIRED = [
    Fault("ec2", "DescribeInstances", "RequestExpired", 400),
    Fault("iam", "GetRole", "ExpiredToken", 403),
    Fault("s3", "HeadBucket", "ExpiredToken", 400),
]
Send = Callable[..., Any]
# Given the request, and what hands it to AWS.
Answer = Callable[[Any, Callable[[], Any]], Any]


class Wire:
    """What goes out over the wire: some requests are answered here and never reach AWS."""

    def __init__(self) -> None:
        self.asked = 0
        self.slept: list[float] = []
        self.answers: dict[str, Answer] = {}

    def put(self, fault: Fault, answer: Answer) -> None:
        """Answer an operation by a function; where it gives None, AWS answers."""
        self.answers[f"before-send.{fault.service}.{fault.operation}"] = answer

    def send(self, deliver: Send, event: str, request: Any, **more: Any) -> Any:
        """Take moto's place between botocore and AWS."""
        if event not in self.answers:
            return deliver(event, request, **more)
        self.asked += 1
        answer = self.answers[event](request, lambda: deliver(event, request, **more))
        return deliver(event, request, **more) if answer is None else answer


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """The wire, and a botocore whose waits take no time and are counted."""
    made, deliver = Wire(), BotocoreStubber.__call__

    class Time:
        sleep = staticmethod(made.slept.append)
        time = staticmethod(time.time)

    def send(moto: Any, event_name: str, request: Any, **more: Any) -> Any:
        return made.send(functools.partial(deliver, moto), event_name, request, **more)

    monkeypatch.setattr(endpoint, "time", Time)
    monkeypatch.setattr(BotocoreStubber, "__call__", send)
    return made


def error(fault: Fault) -> Answer:
    """Answer as AWS does when it refuses."""
    body = f"<Error><Code>{fault.code}</Code><Message>not now</Message></Error>"
    wrapped = {
        "ec2": f"<Response><Errors>{body}</Errors><RequestID>r</RequestID></Response>",
        "iam": f"<ErrorResponse>{body}<RequestId>r</RequestId></ErrorResponse>",
        "s3": body,
    }[fault.service]
    raw = wrapped.encode()
    # A HEAD's answer has no body, and with it no code.
    return lambda request, _deliver: AWSResponse(
        request.url,
        fault.status,
        HTTPHeaders(),
        MockRawResponse(b"" if request.method == "HEAD" else raw),
    )


def times(number: int, answer: Answer) -> Answer:
    """Answer so for a while, then let AWS."""
    left = [number]

    def reply(request: Any, deliver: Callable[[], Any]) -> Any:
        left[0] -= 1
        return answer(request, deliver) if left[0] >= 0 else None

    return reply


def sentence(caught: pytest.ExceptionInfo[LabError]) -> str:
    text = str(caught.value)
    assert "\n" not in text and "Traceback" not in text
    return text


@pytest.mark.parametrize("fault", THROTTLED, ids=lambda fault: fault.operation)
def test_throttled_for_a_while_goes_through(
    aws: Faulty, spec: Spec, wire: Wire, fault: Fault
) -> None:
    wire.put(fault, times(3, error(fault)))
    build(aws, spec)
    assert wire.asked > 3
    assert sum(wire.slept) < 15
    assert look(aws, spec)[3] == []


@pytest.mark.parametrize("fault", THROTTLED, ids=lambda fault: fault.operation)
def test_throttled_for_ever_ends_in_time(aws: Faulty, spec: Spec, wire: Wire, fault: Fault) -> None:
    wire.put(fault, error(fault))
    with pytest.raises(LabError) as caught:
        build(aws, spec)
    said = sentence(caught)
    assert f"AWS throttled {fault.service}:{fault.operation} ({fault.code})" in said
    assert "run the same command again; it goes on where it stopped" in said
    assert sum(wire.slept) < LIMIT_S
    wire.answers.clear()
    build(aws, spec)
    assert look(aws, spec)[3] == []


@pytest.mark.parametrize("fault", EXPIRED, ids=lambda fault: fault.operation)
def test_an_expired_token_is_not_tried_again(
    aws: Faulty, spec: Spec, wire: Wire, fault: Fault
) -> None:
    wire.put(fault, error(fault))
    with pytest.raises(LabError) as caught:
        build(aws, spec)
    assert f"{fault.service}:{fault.operation}" in sentence(caught)
    if fault.operation != "HeadBucket":  # which cannot say why
        assert "renew them" in sentence(caught)
    assert wire.slept == []
    assert aws.writes() == []


def test_a_network_that_is_down_ends_in_time(aws: Faulty, spec: Spec, wire: Wire) -> None:
    def nothing(request: Any, _deliver: Any) -> Any:
        raise ConnectTimeoutError(endpoint_url=request.url)

    wire.put(Fault("ec2", "DescribeVolumes", "", 0), nothing)
    with pytest.raises(LabError) as caught:
        build(aws, spec)
    assert "ec2:DescribeVolumes got no answer" in sentence(caught)
    config: Any = boto()._config  # botocore's own, whose settings have no types
    assert sum(wire.slept) + wire.asked * config.connect_timeout < LIMIT_S


def test_a_quota_that_only_the_launch_knows_of(aws: Faulty, spec: Spec, wire: Wire) -> None:
    fault = Fault("ec2", "RunInstances", "VcpuLimitExceeded", 400)
    wire.put(fault, error(fault))
    with pytest.raises(LabError, match="request-service-quota-increase"):
        build(aws, spec)
    assert (wire.asked, wire.slept) == (1, [])
    wire.answers.clear()
    build(aws, spec)
    assert look(aws, spec)[3] == []


def test_the_reply_to_a_launch_is_lost(
    aws: Faulty, spec: Spec, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS has launched and nobody heard: whoever asks again gives the token of the first time."""
    # moto launches again; AWS, and the sandbox, answer with what was launched.
    run_instances = InstanceResponse.run_instances
    monkeypatch.setattr(
        InstanceResponse, "run_instances", lambda self: launch_once(run_instances, self)
    )
    lost = [8]  # all six tries of the first run, and two of the second

    def hear_nothing(request: Any, deliver: Callable[[], Any]) -> Any:
        answer = deliver()
        lost[0] -= 1
        if lost[0] >= 0:
            raise ConnectTimeoutError(endpoint_url=request.url)
        return answer

    wire.put(Fault("ec2", "RunInstances", "", 0), hear_nothing)
    with pytest.raises(LabError, match="ec2:RunInstances got no answer"):
        build(aws, spec)
    build(aws, spec)
    _, there, _, steps = look(aws, spec)
    assert (len(there.instances), steps) == (1, [])


def _hold(folder: Path, held: Any, let_go: Any) -> None:
    with lock(folder):
        held.set()
        let_go.wait(20)


def test_another_process_holds_the_lab(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, let_go = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "lab", held, let_go))
    other.start()
    assert held.wait(20)
    said = rf"process {other.pid}\) is changing the lab lab"
    with pytest.raises(LabError, match=said), lock(tmp_path / "lab"):
        pytest.fail("two runs at once")
    other.kill()  # as a run that is killed: its lock goes with it
    other.join(20)
    with lock(tmp_path / "lab"):
        pass


def test_a_profile_that_another_run_has_made_is_taken(aws: Faulty, spec: Spec) -> None:
    aws.before = once("CreateInstanceProfile", "EntityAlreadyExists")
    with pytest.raises(LabError):
        build(aws, spec)  # it is not there after all: the next call says so
    build(aws, spec)
    assert look(aws, spec)[3] == []


def test_codes_have_one_meaning() -> None:
    assert not session.THROTTLED & session.CREDENTIALS
    assert not session.DENIED & (session.THROTTLED | session.CREDENTIALS)
