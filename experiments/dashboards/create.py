"""Make the saved views of dashboards.yaml in a wandb project.

python experiments/dashboards/create.py --entity <user or team> --project ccreid

needs `pip install wandb-workspaces` and `wandb login`. `--json <folder>` writes the views there
instead, and sends nothing.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import wandb_workspaces.reports.v2 as charts
import wandb_workspaces.workspaces as workspaces
from definition import Dashboard, Panel, read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entity", required=True)
    parser.add_argument("--project", default="ccreid")
    parser.add_argument("--benchmarks", nargs="+", default=["virtual"])
    parser.add_argument("--json", type=Path, help="write the views there and send nothing")
    arguments = parser.parse_args()
    for name, dashboard in read(arguments.benchmarks).items():
        view = workspace(dashboard, arguments.entity, arguments.project)
        if arguments.json:
            arguments.json.mkdir(parents=True, exist_ok=True)
            spec = view._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)
            (arguments.json / f"{name}.json").write_text(json.dumps(spec, indent=1) + "\n")
        else:
            print(view.save().url)


def workspace(dashboard: Dashboard, entity: str, project: str) -> Any:
    """Return the view as wandb's own object; nothing is sent."""
    group = [workspaces.Config(dashboard.group_by)] if dashboard.group_by else []
    method = workspaces.Config("method._target_")
    return workspaces.Workspace(
        name=dashboard.title,
        entity=entity,
        project=project,
        sections=[
            workspaces.Section(
                name=title,
                panels=[chart(panel, dashboard.group_by) for panel in panels],
                is_open=True,
            )
            for title, panels in dashboard.sections.items()
        ],
        settings=workspaces.WorkspaceSettings(max_runs=100),
        runset_settings=workspaces.RunsetSettings(
            filters=[method.isin([*dashboard.targets])], groupby=group
        ),
    )


def chart(panel: Panel, group_by: str) -> Any:
    """Return a panel as wandb's own object."""
    grouped: dict[str, Any] = {}
    if group_by:
        over = charts.Config(group_by)
        grouped = {"groupby": over, "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    metrics = list(panel.metrics)
    if panel.kind == "lines":
        return charts.LinePlot(title=panel.title, x="epoch", y=metrics, log_y=panel.log, **grouped)
    if panel.kind == "bars":
        return charts.BarPlot(title=panel.title, metrics=metrics, orientation="h", **grouped)
    x = charts.Config(panel.config) if panel.config else charts.SummaryMetric(panel.x)
    y = charts.SummaryMetric(metrics[0])
    return charts.ScatterPlot(title=panel.title, x=x, y=y, log_x=panel.log, running_ymean=True)


if __name__ == "__main__":
    main()
