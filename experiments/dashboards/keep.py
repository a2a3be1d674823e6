"""Keep one offline wandb run with the repository: small, and without where it was made.

python experiments/dashboards/keep.py <run folder> experiments/dashboards/example_run

writes config.yaml, wandb-summary.json, history.csv and offline-run-<time>-<id>/, which `wandb sync`
uploads. Only the run's name, group, tags, config and numbers are copied: nothing of the machine,
the user, the command or its pictures; paths in texts keep their last part alone.
"""

import argparse
import csv
import json
import re
import socket
from pathlib import Path
from typing import Any

import yaml
from offline_run import read_records, write_records
from wandb.proto.wandb_internal_pb2 import Record

LIMIT = 1_000_000  # bytes; a repository is no place for more
PATH = re.compile(
    r"(?<![\w.}>-])(?:~|[A-Za-z]:)?[/\\](?:[^\s,;:=\[\]'\"]*[/\\])?([^\s,;:=\[\]'\"/\\]+)"
)
UNWANTED = ("pictures/", "_timestamp", "_wandb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "run", type=Path, help="the folder of a run made with logger=wandb, offline"
    )
    parser.add_argument("into", type=Path)
    arguments = parser.parse_args()
    found = sorted(arguments.run.glob("wandb/offline-run-*/run-*.wandb"))
    if len(found) != 1:
        parser.error(f"{arguments.run}/wandb holds {len(found)} offline runs; one is kept")
    for file in keep(found[0], arguments.into):
        print(file)


def keep(source: Path, into: Path) -> list[Path]:
    """Write what is kept of a run's file; return the files.

    Raises:
        SystemExit: it would be too large, or still name this machine.
    """
    records = [scrubbed(Record.FromString(raw)) for raw in read_records(source)]
    kept = [record for record in records if record is not None]
    config = {
        item.key: json.loads(item.value_json)
        for record in kept
        for item in record.run.config.update
    }
    history = [numbers(record.history.item) for record in kept if record.HasField("history")]
    summary: dict[str, Any] = {}
    for row in history:
        summary |= row
    texts = {
        "config.yaml": yaml.safe_dump(config, sort_keys=True, allow_unicode=True),
        "wandb-summary.json": json.dumps(summary, indent=1, sort_keys=True) + "\n",
    }
    require_anonymous([*texts.values(), *map(str, kept)], source)
    folder = into / source.parent.name
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (into / name).write_text(text, encoding="utf-8")
    write_history(history, into / "history.csv")
    write_records(folder / source.name, (record.SerializeToString() for record in kept))
    files = [*(into / name for name in texts), into / "history.csv", folder / source.name]
    if (size := sum(file.stat().st_size for file in files)) > LIMIT:
        raise SystemExit(f"{size:,} bytes are more than a repository should hold ({LIMIT:,}).")
    return files


def scrubbed(record: Record) -> Record | None:
    """Return what is kept of a record; None of one that says where the run was made, or nothing."""
    kept = Record(num=record.num)
    kind = record.WhichOneof("record_type")
    if kind == "run":
        kept.run.run_id, kept.run.project = record.run.run_id, record.run.project
        kept.run.start_time.CopyFrom(record.run.start_time)
        kept.run.display_name = without_paths(record.run.display_name)
        kept.run.run_group = without_paths(record.run.run_group)
        kept.run.tags.extend(record.run.tags)
        for item in record.run.config.update:
            if item.key not in UNWANTED:
                value = without_paths(json.loads(item.value_json))
                kept.run.config.update.add(key=item.key, value_json=json.dumps(value))
    elif kind in ("history", "summary"):
        items = record.history.item if kind == "history" else record.summary.update
        target = kept.history.item if kind == "history" else kept.summary.update
        target.extend(item for item in items if not key_of(item).startswith(UNWANTED))
        if not len(target):
            return None
        if kind == "history":
            kept.history.step.CopyFrom(record.history.step)
    elif kind == "metric" and record.metric.name.startswith(UNWANTED):
        return None  # of the oldest wandb that is allowed
    elif kind in ("header", "metric", "exit", "final", "footer"):
        getattr(kept, kind).CopyFrom(getattr(record, kind))
    else:
        return None
    return kept


def without_paths(value: Any) -> Any:
    """Return a value of a config with every absolute path in it cut to its last part."""
    if isinstance(value, dict):
        return {key: without_paths(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_paths(each) for each in value]
    return PATH.sub(r"<path>/\1", value) if isinstance(value, str) else value


def key_of(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def numbers(items: Any) -> dict[str, Any]:
    return {key_of(item): json.loads(item.value_json) for item in items}


def write_history(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a row per step, the counters before the metrics."""
    counters = ("_step", "epoch", "trainer/global_step")
    keys = sorted({key for row in rows for key in row}, key=lambda key: (key not in counters, key))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, keys)
        table.writeheader()
        table.writerows(rows)


def require_anonymous(texts: list[str], source: Path) -> None:
    """Stop if a text names this machine or a folder of it."""
    folders = [str(Path.home()), str(Path.cwd()), str(source.resolve().parents[2])]
    patterns = [re.escape(folder) for folder in folders if folder != "/"]
    patterns.append(rf"\b{re.escape(socket.gethostname())}\b")
    for text in texts:
        if found := re.search("|".join(patterns), text):
            raise SystemExit(
                f"The run still says where it was made: {found[0]!r}. Nothing is kept."
            )


if __name__ == "__main__":
    main()
