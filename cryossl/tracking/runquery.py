"""The words in which MLflow is asked for runs."""

from __future__ import annotations

from collections.abc import Mapping

from cryossl.errors import TrackingError


def tag_filter(tags: Mapping[str, str]) -> str:
    """MLflow's query for runs that have all these tags.

    Raises TrackingError for a value with both kinds of quotes.
    """
    for key, value in tags.items():
        if "'" in value and '"' in value:
            raise TrackingError(
                f"tag {key} = {value} cannot be searched for", cure="use one kind of quotes"
            )
    return " and ".join(
        f"tags.`{key}` = " + (f'"{value}"' if "'" in value else f"'{value}'")
        for key, value in tags.items()
    )
