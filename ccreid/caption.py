"""Describe the train images: `python -m ccreid.caption data=prcc captioner=transformers`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra

from ccreid.commands import guarded, run_verb
from ccreid.config import CONF_DIR
from ccreid.errors import ConfigError, DataError, require
from ccreid.writing import unwritable, write_whole

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ccreid.annotation.captioners import Captioner
    from ccreid.data.sample import Sample

AUTHOR = "captioner.json"
"""Says beside the captions which model was asked what."""

_Task = tuple[str, "Sample", tuple[str, ...]]  # key, image, perspectives to write


def caption(cfg: DictConfig) -> Path:
    """Ask a model about every train image that has no caption yet; return the file of texts.

    An image's texts are appended as soon as they are there, so that an interrupted command goes on
    where it was.

    Raises:
        CCReIDError: the benchmark or the model cannot be had, or the model does not answer.
    """
    from rich.progress import Progress

    from ccreid import report
    from ccreid.build import choose_device, instantiate
    from ccreid.data.captions.files import (
        PERSPECTIVES,
        TEXTS,
        append_captions,
        captions_folder,
        require_perspectives,
    )
    from ccreid.data.whole_files import leave_out_damaged

    is_list = not isinstance(cfg.perspectives, str)
    require(is_list, "perspectives", cfg.perspectives, f"a list: [{cfg.perspectives}]")
    require_perspectives(cfg.perspectives, "perspectives", PERSPECTIVES)
    prompts = {name: cfg.prompts[name] for name in cfg.perspectives}
    benchmark = instantiate(cfg.data.benchmark)
    if cfg.data.on_damaged == "leave_out":
        benchmark, note = leave_out_damaged(benchmark)
        if note:
            report.show(note)
    path = captions_folder(cfg.folder, benchmark) / TEXTS
    captioner = instantiate(cfg.captioner).to(choose_device(cfg.device))
    with _alone_in(path.parent):
        _sign(path, captioner.name, prompts)
        tasks = _tasks(path, benchmark.train, list(prompts))
        with Progress(console=report.console, transient=True) as progress:
            bar = progress.add_task(f"captions by {captioner.name}", total=len(tasks))
            for start in range(0, len(tasks), captioner.batch_size):
                batch = tasks[start : start + captioner.batch_size]
                append_captions(path, _describe(captioner, batch, prompts))
                _require_an_answer(path, captioner)
                progress.advance(bar, len(batch))
        lacking = len(_tasks(path, benchmark.train, list(prompts)))
    report.show(
        f"{len(tasks) - lacking} train images were described, {len(benchmark.train) - len(tasks)} "
        f"had been before, and of {lacking} the model had nothing to say: {path}\n"
        f"Next: python -m ccreid.encode_text data={benchmark.name} folder={path.parent} "
        "encoder=<open_clip, minilm or tfidf>"
    )
    return path


def _tasks(path: Path, samples: Sequence[Sample], perspectives: Sequence[str]) -> list[_Task]:
    """Return the images that lack a text, and which."""
    from ccreid.data.captions.files import drop_half_line, keys_of, read_captions

    if path.exists():
        drop_half_line(path)
    written = read_captions(path) if path.exists() else {}
    tasks = []
    for key, sample in zip(keys_of(samples), samples, strict=True):
        lacking = tuple(name for name in perspectives if name not in written.get(key, {}))
        if lacking:
            tasks.append((key, sample, lacking))
    return tasks


def _describe(
    captioner: Captioner, batch: Sequence[_Task], prompts: Mapping[str, str]
) -> list[tuple[str, dict[str, str]]]:
    from ccreid.data.files import read_image

    images = {key: read_image(sample.cover) for key, sample, _ in batch}
    texts: dict[str, dict[str, str]] = {key: {} for key in images}
    for perspective, prompt in prompts.items():
        keys = [key for key, _, lacking in batch if perspective in lacking]
        answers = captioner.describe([images[key] for key in keys], prompt) if keys else []
        for key, answer in zip(keys, answers, strict=True):
            if answer:
                texts[key][perspective] = answer
    return [(key, answers) for key, answers in texts.items() if answers]


def _require_an_answer(path: Path, captioner: Captioner) -> None:
    if path.stat().st_size == 0:
        raise DataError(
            f"{captioner.name} had nothing to say of any of the first {captioner.batch_size} "
            "images. Change the prompts (prompts.<perspective>=<question>) or the model."
        )


def _sign(path: Path, captioner: str, prompts: Mapping[str, str]) -> None:
    """Note who writes and what is asked; captions of one file have one author and one question."""
    record = path.with_name(AUTHOR)
    known: dict[str, Any] = {"captioner": captioner, "prompts": {}}
    if record.exists() and path.exists():
        known = json.loads(record.read_text(encoding="utf-8"))
    elif path.exists():
        known["captioner"] = "an unknown author"
    asked_otherwise = [
        n for n, prompt in prompts.items() if known["prompts"].get(n, prompt) != prompt
    ]
    if known["captioner"] != captioner or asked_otherwise:
        raise ConfigError(
            f"{path} holds captions by {known['captioner']}, not by {captioner}"
            + (f", or of another prompt ({', '.join(asked_otherwise)})" if asked_otherwise else "")
            + ". Captions of one file should be comparable: choose another folder=<folder>"
        )
    known["prompts"] |= prompts
    with write_whole(record, partial(unwritable, setting="folder")) as file:
        file.write(f"{json.dumps(known, indent=1, ensure_ascii=False)}\n".encode())


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    from ccreid.runs.jobs import hold

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot write into {folder} ({error}). Choose another folder=") from None
    with hold(folder, patience=0) as free:
        if not free:
            raise ConfigError(f"Another process is writing captions into {folder}.")
        yield


@hydra.main(config_path=str(CONF_DIR), config_name="caption", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Hydra's entry."""
    guarded(caption, cfg)


if __name__ == "__main__":
    run_verb(main, "caption")
