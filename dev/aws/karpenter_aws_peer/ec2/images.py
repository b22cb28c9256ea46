"""DescribeImages: moto's, with deprecation."""

from __future__ import annotations

from datetime import datetime, timezone

from moto.core.responses import ActionResult
from moto.ec2.models.amis import Ami

from ..xmlwire import Ec2Xml, timestamp
from .base import Action, tag_list


def deprecated(image: Ami) -> bool:
    when = getattr(image, "deprecation_time", None)
    return when is not None and when <= datetime.now(timezone.utc)


class ImageActions(Action):
    def describe_images(self) -> ActionResult:
        self.refuse_if_dry_run()
        given = self.given()
        ids = given.get("ImageIds") or []
        images = self.ec2_backend.describe_images(
            ami_ids=ids,
            filters=self._filters_from_querystring(),
            exec_users=given.get("ExecutableUsers") or [],
            owners=given.get("Owners") or [],
        )
        # An image that is asked for by its id is told of even when deprecated.
        if not ids and not self._get_bool_param("IncludeDeprecated"):
            images = [image for image in images if not deprecated(image)]
        page, token = self.page(images, default=1000, most=1000)
        return Ec2Xml({"Images": [self._image_told(image) for image in page], "NextToken": token})

    def _image_told(self, image: Ami) -> dict[str, object]:
        when = getattr(image, "deprecation_time", None)
        return {
            "ImageId": image.id,
            "Name": image.name,
            "Description": image.description,
            "CreationDate": timestamp(image.creation_date),
            "DeprecationTime": None if when is None else timestamp(when),
            "Architecture": image.architecture,
            "Platform": image.platform,
            "PlatformDetails": "Windows" if image.platform == "windows" else "Linux/UNIX",
            "OwnerId": image.owner_id,
            "ImageOwnerAlias": image.owner_alias,
            "ImageLocation": image.image_location,
            "ImageType": image.image_type,
            "Public": image.is_public,
            "State": image.state,
            "Hypervisor": image.hypervisor,
            "VirtualizationType": image.virtualization_type,
            "RootDeviceName": image.root_device_name,
            "RootDeviceType": image.root_device_type,
            "EnaSupport": True,
            "BootMode": image.boot_mode,
            "BlockDeviceMappings": image.block_device_mappings,
            "Tags": tag_list(self.peer.tags_of(image.id)),
        }
