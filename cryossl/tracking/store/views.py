"""The pages of MLflow that show the answer, as views that it keeps: F1 by iteration, and the axes.

MLflow keeps a view (filter, grouping, columns, charts) in a tag of the experiment, lists it in the
menu "Views" and opens it by a link with its key. Nothing else of a link chooses a grouping or
charts. Tried with MLflow 3.17.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from cryossl.tracking.store.mlflow_store import MlflowStore, tag_filter

CURVES, AXES = "cryossl-curves", "cryossl-axes"
"""Keys of the views: curves by iteration grouped by strategy and ratio; parallel coordinates."""
SAME = ("cryossl.data_digest", "cryossl.code_digest")
"""Tags that all arms of a page share, because `compare` does not mix them either."""

_TAG = "mlflow.sharedViewState."
_MADE_MS = 1_767_225_600_000  # fixed, so that the same view is the same tag
_NAMES = {CURVES: "F1 by iteration and strategy", AXES: "Parallel coordinates of the arms"}
_GROUP = "cryossl.arm"  # strategy and ratio
_OLD_GROUPS = ("cryossl.strategy", "cryossl.ratio_percent")  # arms of older versions
_CURVES = {
    "Test F1 by iteration": ("test/f1", "test/particle_f1", "validation/f1"),
    "Gain over the supervised baseline": ("gain/f1", "gain/particle_f1"),
    "Test F1 and gain by eight views": (
        "test/f1_views8",
        "gain/f1_views8",
        "test/particle_f1_views8",
    ),
    "Pseudo-labels": ("pseudo/count", "pseudo/per_labelled"),
    "Particle ratio of the pseudo-labels": ("pseudo/particle_ratio", "pseudo/f1_cap"),
}
# MLflow adds a section for every other metric, in the order in which it meets them; named here,
# they stand in this order, closed.
_OTHERS = (
    "accepted",
    "test",
    "test/f1",
    "test/f1_views8",
    "test/particle_f1",
    "test/particle_f1_views8",
    "gain",
    "pseudo",
    "pseudo/particle_ratio",
    "quality",
    "validation",
    "validation/f1",
    "validation/f1_views8",
    "validation/particle_f1",
    "validation/particle_f1_views8",
    "threshold",
    "train",
    "time",
    "best_step",
)
_COLUMNS = ("params.`strategy`", "params.`ratio_percent`", "params.`seed`")
_SCORES = ("accepted/test_f1", "accepted/gain_f1", "accepted/test_particle_f1")
_AXES_PARAMS = ("strategy", "ratio_percent", "seed")


def page(address: str, experiment_id: str, view: str = CURVES) -> str:
    """The link of a view at a server's address."""
    query = urlencode(
        {
            "viewStateShareKey": view,
            "compareRunsMode": "CHART",
            "workflowType": "machine_learning",
        }
    )
    return f"{address.rstrip('/')}/#/experiments/{experiment_id}/runs?{query}"


def keep_views(store: MlflowStore, tags: Mapping[str, str]) -> None:
    """Keep the views in the connected store's experiment, for the arms that have these tags.

    `tags`: those of an arm, or those that all arms of an invocation share.
    A view that is there as it should be is not written. Raises StoreAwayError, RefusedError.
    """
    experiment = store.experiment_id
    there = store.call(lambda client: client.get_experiment(experiment)).tags
    query = tag_filter(
        {"cryossl.kind": "arm", **{name: tags[name] for name in SAME if name in tags}}
    )
    of_older_version = "cryossl.strategy" in tags and _GROUP not in tags
    groups = _OLD_GROUPS if of_older_version else (_GROUP,)
    for view, state in ((CURVES, _curves(groups)), (AXES, _axes())):
        value = _envelope(_NAMES[view], {**_state(query), **state})
        if there.get(_TAG + view) != value:
            store.call(
                lambda client, view=view, value=value: client.set_experiment_tag(  # type: ignore[misc]
                    experiment, _TAG + view, value
                )
            )


def newest_arm(store: MlflowStore, experiment: str) -> Mapping[str, str]:
    """The tags of the arm that was started last; empty if there is none."""
    found = store.call(
        lambda client: client.search_runs(
            [experiment],
            tag_filter({"cryossl.kind": "arm"}),
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
    )
    return dict(found[0].data.tags) if found else {}


def _envelope(name: str, state: Mapping[str, Any]) -> str:
    packed = zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 9)
    content = {
        "name": name,
        "createdAt": _MADE_MS,
        "updatedAt": _MADE_MS,
        "state": f"deflate;{base64.b64encode(packed).decode()}",
    }
    return json.dumps(content, separators=(",", ":"))


def _state(query: str) -> dict[str, Any]:
    """What all views share: the arms that are shown, the columns of the list, and no smoothing."""
    return {
        "searchFilter": query,
        "orderByKey": "attributes.`Created`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": [*_COLUMNS, *(f"metrics.`{name}`" for name in _SCORES)],
        "columnOrder": [],
        "columnWidths": {},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "SHOW_ALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "groupBy": None,
        "groupsExpanded": {},
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "autoRefreshEnabled": True,
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
    }


def _curves(tags: Sequence[str]) -> dict[str, Any]:
    charts = [
        _card("LINE", section)
        | {
            "uuid": f"{CURVES}-{metric}",
            "metricKey": metric,
            "selectedMetricKeys": [metric],
            "lineSmoothness": 0,
            "xAxisScaleType": "linear",
            "scaleType": "linear",
            "xAxisKey": "step",
            "selectedXAxisMetricKey": "",
            "yAxisKey": "metric",
            "yAxisExpressions": [],
            "ignoreOutliers": False,
            "useGlobalXaxisKey": True,
            "useGlobalLineSmoothing": True,
            "displayPoints": True,
            "range": {},
        }
        for section, metrics in _CURVES.items()
        for metric in metrics
    ]
    groups = [{"mode": "tag", "groupByData": tag} for tag in tags]
    return {
        "groupBy": {"aggregateFunction": "average", "groupByKeys": groups},
        "compareRunCharts": charts,
        "compareRunSections": _sections({name: len(of) for name, of in _CURVES.items()}),
    }


def _axes() -> dict[str, Any]:
    section = "Parallel coordinates"
    chart = _card("PARALLEL", section) | {
        "uuid": AXES,
        "selectedParams": list(_AXES_PARAMS),
        "selectedMetrics": list(_SCORES),
        "showAllRuns": True,
    }
    return {"compareRunCharts": [chart], "compareRunSections": _sections({section: 1})}


def _card(kind: str, section: str) -> dict[str, Any]:
    return {
        "type": kind,
        "metricSectionId": section,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }


def _sections(first: Mapping[str, int]) -> list[dict[str, Any]]:
    """The sections of a page; `first`: the open ones, each with its charts in a row."""
    return [
        {
            "uuid": name,
            "name": name,
            "display": name in first,
            "columns": first.get(name, 3),
            "isReordered": True,
            "deleted": False,
            "isGenerated": False,
        }
        for name in (*first, *_OTHERS)
    ]
