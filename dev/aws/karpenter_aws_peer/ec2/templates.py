"""Launch templates: moto's, with pages, the size limit of user data, and EC2's words for one that is missing."""

from __future__ import annotations

import base64
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError

from ..errors import ec2_error
from ..peer import ACCOUNT
from ..xmlwire import Ec2Xml
from .base import Action, plain, tag_list

USER_DATA_LIMIT = 16384


class TemplateActions(Action):
    def create_launch_template(self) -> ActionResult:
        data = self.given().get("LaunchTemplateData") or {}
        user_data = data.get("UserData")
        if user_data and len(base64.b64decode(str(user_data))) > USER_DATA_LIMIT:
            raise ec2_error("InvalidUserData.Malformed", f"User data is limited to {USER_DATA_LIMIT} bytes")
        return super().create_launch_template()  # type: ignore[misc]

    def describe_launch_templates(self) -> ActionResult:
        self.refuse_if_dry_run()
        given = self.given()
        # A dict in between: the same template may be asked for by name and by id.
        templates = self.ec2_backend.describe_launch_templates(
            template_names=given.get("LaunchTemplateNames") or [],
            template_ids=given.get("LaunchTemplateIds") or [],
            filters=self._filters_from_querystring(),
        )
        missing = set(given.get("LaunchTemplateIds") or []) - {each.id for each in templates}
        if missing:
            raise ec2_error(
                "InvalidLaunchTemplateId.NotFound",
                f"The specified launch template, with template ID {sorted(missing)[0]}, does not exist.",
            )
        page, token = self.page(templates, default=200, most=200)
        return Ec2Xml(
            {
                "LaunchTemplates": [
                    {
                        "LaunchTemplateId": each.id,
                        "LaunchTemplateName": each.name,
                        "CreateTime": each.create_time,
                        "CreatedBy": f"arn:aws:iam::{ACCOUNT}:root",
                        "DefaultVersionNumber": each.default_version_number,
                        "LatestVersionNumber": each.latest_version_number,
                        "Tags": tag_list(self.peer.tags_of(each.id)),
                    }
                    for each in page
                ],
                "NextToken": token,
            }
        )


def resolve(backend: Any, specification: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A launch template's data and its exact reference; EC2's error when there is none."""
    template_id, name = specification.get("LaunchTemplateId"), specification.get("LaunchTemplateName")
    if template_id:
        template = backend.launch_templates.get(template_id)
        if template is None:
            raise ec2_error(
                "InvalidLaunchTemplateId.NotFound",
                f"The specified launch template, with template ID {template_id}, does not exist.",
            )
    elif name:
        template = backend.launch_templates.get(backend.launch_template_name_to_ids.get(name))
        if template is None:
            raise ec2_error(
                "InvalidLaunchTemplateName.NotFoundException",
                f"The specified launch template, with template name {name}, does not exist.",
            )
    else:
        raise ec2_error("MissingParameter", "A launch template's id or name is missing")
    try:
        version = template.get_version(specification.get("Version") or "$Default")
    except (ValueError, EC2ClientError):
        raise ec2_error(
            "InvalidLaunchTemplateId.VersionNotFound",
            f"Could not find the specified version {specification.get('Version')} for the launch template with ID {template.id}.",
        ) from None
    return plain(version.data), {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "Version": str(version.number),
    }
