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

CURVES, AXES, SETTINGS = "cryossl-curves", "cryossl-axes", "cryossl-settings"
"""Keys of the views: curves by iteration grouped by strategy and ratio; parallel coordinates; bars
and curves grouped by the values of some settings too."""
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
_BARS = {
    "Test F1 of the accepted model": ("accepted/test_f1", "accepted/test_particle_f1"),
    "Gain of the accepted model": ("accepted/gain_f1",),
}
_OF_SETTINGS = ("Test F1 by iteration", "Gain over the supervised baseline")
"""The sections of curves that the view by settings has too."""
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


def keep_views(store: MlflowStore, tags: Mapping[str, str], *, by: Sequence[str] = ()) -> None:
    """Keep the views in the connected store's experiment, for the arms that have these tags.

    Args:
        store: that is connected.
        tags: those of an arm, or those that all arms of an invocation share.
        by: params (`selection.particle_threshold`) by whose values a further view groups the arms,
            beside the strategy. It takes the place of such a view of other params; without any, one
            that is there stays.

    A view that is there as it should be is not written. Raises StoreAwayError, RefusedError.
    """
    experiment = store.experiment_id
    there = store.call(lambda client: client.get_experiment(experiment)).tags
    query = tag_filter(
        {"cryossl.kind": "arm", **{name: tags[name] for name in SAME if name in tags}}
    )
    of_older_version = "cryossl.strategy" in tags and _GROUP not in tags
    groups = _OLD_GROUPS if of_older_version else (_GROUP,)
    wanted = [(CURVES, _NAMES[CURVES], _curves(groups)), (AXES, _NAMES[AXES], _axes())]
    if by:
        names = " and ".join(name.rpartition(".")[2] for name in by)
        wanted.append((SETTINGS, f"F1 by {names}", _by_settings(groups, by)))
    for view, name, state in wanted:
        columns = [f"params.`{param}`" for param in by] if view == SETTINGS else []
        value = _envelope(name, {**_state(query, columns), **state})
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


def _state(query: str, columns: Sequence[str] = ()) -> dict[str, Any]:
    """What all views share: the arms that are shown, the columns of the list, and no smoothing.

    `columns` of the list come before those that all views have.
    """
    return {
        "searchFilter": query,
        "orderByKey": "attributes.`Created`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": [*columns, *_COLUMNS, *(f"metrics.`{name}`" for name in _SCORES)],
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
    return {
        "groupBy": _grouped([{"mode": "tag", "groupByData": tag} for tag in tags]),
        "compareRunCharts": [chart for section in _CURVES for chart in _lines(CURVES, section)],
        "compareRunSections": _sections({name: len(of) for name, of in _CURVES.items()}),
    }


def _by_settings(tags: Sequence[str], params: Sequence[str]) -> dict[str, Any]:
    """Bars of the accepted models, then curves by iteration, a group per value and strategy."""
    bars = [
        _card("BAR", section)
        | {"uuid": f"{SETTINGS}-{metric}", "metricKey": metric, "dataAccessKey": metric}
        for section, metrics in _BARS.items()
        for metric in metrics
    ]
    lines = [chart for section in _OF_SETTINGS for chart in _lines(SETTINGS, section)]
    shown = {**_BARS, **{name: _CURVES[name] for name in _OF_SETTINGS}}
    return {
        "groupBy": _grouped(
            [
                *({"mode": "param", "groupByData": param} for param in params),
                *({"mode": "tag", "groupByData": tag} for tag in tags),
            ]
        ),
        "compareRunCharts": [*bars, *lines],
        "compareRunSections": _sections({name: len(of) for name, of in shown.items()}),
    }


def _grouped(keys: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    return {"aggregateFunction": "average", "groupByKeys": list(keys)}


def _lines(view: str, section: str) -> list[dict[str, Any]]:
    """The charts by iteration of a section of `_CURVES`."""
    return [
        _card("LINE", section)
        | {
            "uuid": f"{view}-{metric}",
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
        for metric in _CURVES[section]
    ]


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
