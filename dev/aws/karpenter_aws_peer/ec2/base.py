"""What our EC2 actions share: plain parameters, dry runs, filters, pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Any, TypeVar

from moto.ec2.responses._base_response import EC2BaseResponse

from ..errors import ec2_error, invalid_parameter
from ..peer import Peer

T = TypeVar("T")
#: A filter's values of one thing: several for tags and groups, none where the thing lacks it.
Values = Iterable[str]


def plain(value: Any) -> Any:
    """moto hands parameters over in its own mapping; ordinary dicts are easier to keep and compare."""
    if hasattr(value, "original_dict"):
        value = value.original_dict()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    # EC2 knows * and ? only; a bracket is a bracket.
    return re.compile(translate(text.replace("[", "[[]")))


class Action(EC2BaseResponse):
    """Mixed into moto's EC2 response class."""

    peer: Peer

    def given(self) -> dict[str, Any]:
        return plain(self.params)

    def refuse_if_dry_run(self) -> None:
        if self._get_bool_param("DryRun"):
            raise ec2_error("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")

    def filtered(self, things: Iterable[T], values_of: Callable[[T, str], Values | None]) -> list[T]:
        """Those that pass all Filters; `values_of` answers None for a filter that does not exist."""
        wanted = [(each["Name"], [_pattern(v) for v in each.get("Values", [])]) for each in self.given().get("Filters", [])]
        kept = []
        for thing in things:
            for name, patterns in wanted:
                values = values_of(thing, name)
                if values is None:
                    raise invalid_parameter(f"The filter '{name}' is invalid")
                if not any(pattern.match(value) for value in values for pattern in patterns):
                    break
            else:
                kept.append(thing)
        return kept

    def page(self, things: Sequence[T], default: int, most: int) -> tuple[Sequence[T], str | None]:
        """A page of a list that does not change its order; the token is the place of the next page."""
        token = self._get_param("NextToken")
        if self.peer.empty_pages and not token:
            return [], "page-0"
        try:
            start = int(str(token).removeprefix("page-")) if token else 0
        except ValueError:
            raise ec2_error("InvalidNextToken", f"The token {token!r} is not one of ours") from None
        size = min(int(self._get_param("MaxResults") or default), most)
        end = start + size
        return things[start:end], (f"page-{end}" if end < len(things) else None)


def tag_values(tags: dict[str, str], name: str) -> Values | None:
    """A tag filter's values, None when it is no tag filter."""
    if name.startswith("tag:"):
        value = tags.get(name[4:])
        return [] if value is None else [value]
    if name == "tag-key":
        return tags.keys()
    if name == "tag-value":
        return tags.values()
    return None


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tags_for(specifications: list[dict[str, Any]] | None, resource: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    for specification in specifications or []:
        if specification.get("ResourceType") == resource:
            tags |= {tag["Key"]: tag.get("Value", "") for tag in specification.get("Tags", [])}
    return tags
