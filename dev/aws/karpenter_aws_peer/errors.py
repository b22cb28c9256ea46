"""The errors our EC2 actions answer with."""

from __future__ import annotations

from moto.ec2.exceptions import EC2ClientError


def ec2_error(code: str, message: str) -> EC2ClientError:
    return EC2ClientError(code, message)


def invalid_parameter(message: str) -> EC2ClientError:
    return EC2ClientError("InvalidParameterValue", message)
