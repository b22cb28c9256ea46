"""EC2's XML, quickly.

moto serialises through a general machine that takes ten seconds for all instance types. EC2's dialect is small, so one
closure per shape of botocore's model, built once, writes the same document some hundred times faster.
"""

from __future__ import annotations

import base64
import functools
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any
from xml.sax.saxutils import escape

from moto.core.responses import ActionContext, ActionResult

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"


class Markup(str):
    """Text that is XML already: a list's items, written ahead."""


def _scalar(shape: Any) -> Callable[[Any], str]:
    match shape.type_name:
        case "boolean":
            return lambda value: "true" if value else "false"
        case "timestamp":
            return timestamp
        case "blob":
            return lambda value: base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
        case "float" | "double":
            return lambda value: repr(float(value))
        case _:
            return lambda value: escape(str(value))


def timestamp(value: Any) -> str:
    if isinstance(value, str):
        return value
    moment = value if isinstance(value, datetime) else datetime.fromtimestamp(value, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


_writers: dict[str, Callable[[Any], str]] = {}


def writer(shape: Any) -> Callable[[Any], str]:
    """The function that writes a value of this shape, without the element around it."""
    if shape.type_name in ("structure", "list"):
        known = _writers.get(shape.name)
        if known is None:
            # Shapes may contain themselves: the late look-up breaks the circle.
            _writers[shape.name] = lambda value: _writers[shape.name](value)
            known = _writers[shape.name] = _structure(shape) if shape.type_name == "structure" else _list(shape)
        return known
    return _scalar(shape)


def _structure(shape: Any) -> Callable[[Any], str]:
    members = []
    for name, member in shape.members.items():
        element = member.serialization.get("name", name)
        members.append((name, f"<{element}>", writer(member), f"</{element}>"))

    def write(value: Any) -> str:
        parts = []
        for name, opening, inner, closing in members:
            found = value.get(name)
            if found is not None:
                parts += (opening, inner(found), closing)
        return "".join(parts)

    return write


def _list(shape: Any) -> Callable[[Any], str]:
    inner = writer(shape.member)

    def write(value: Any) -> str:
        if isinstance(value, Markup):
            return value
        return "".join(f"<item>{inner(each)}</item>" for each in value)

    return write


def items(shape: Any, values: list[dict[str, Any]]) -> list[Markup]:
    """Each value as an item of a list of this shape, to be kept and joined later."""
    inner = writer(shape.member)
    return [Markup(f"<item>{inner(value)}</item>") for value in values]


@functools.cache
def output_shape(operation: str) -> Any:
    return _model().operation_model(operation).output_shape


@functools.cache
def _model() -> Any:
    # botocore's own model: moto's reads the same file but keeps the elements' names elsewhere.
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    return ServiceModel(Loader().load_service_model("ec2", "service-2"), "ec2")


class Ec2Xml(ActionResult):
    """An answer of one of our own EC2 actions."""

    def execute_result(self, context: ActionContext) -> Any:
        operation = context.operation_model.name
        shape = output_shape(operation)
        inner = writer(shape)(self.result) if shape is not None else "<return>true</return>"
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<{operation}Response xmlns="{NAMESPACE}">'
            f"<requestId>{uuid.uuid4()}</requestId>{inner}</{operation}Response>"
        )
        return 200, {"Content-Type": "text/xml;charset=UTF-8"}, body
