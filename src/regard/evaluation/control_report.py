"""Measure a model under each control of its inputs: does it read relations, boxes, the order of words?"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from regard.batch import Batch
from regard.charts import draw_changes
from regard.data import Split
from regard.encode import batch_rows, read_images, read_texts
from regard.evaluation.compare import Difference, difference
from regard.evaluation.controls import CONTROLS, Control
from regard.evaluation.evaluate import scores_of
from regard.evaluation.multiple_tests import holm
from regard.matcher import Matcher
from regard.metrics import Recalls, galleries, seven, summary

LEVEL = 0.05  # a change with a smaller p-value is called clear
# The forms of the verdict, with the word before the last of several inputs.
READ, FAINT = ("reads {}", "and"), ("reads {}, without a clear effect on rSum", "and")
UNREAD, UNTESTED = ("does not read {}", "or"), ("was not tested for {}", "or")
IDLE = ("has {} as an input, on which nothing in this split depends", "and")
UNCHANGED = Difference(rsum=0.0, low=0.0, high=0.0, p=1.0)


@dataclass(frozen=True)
class ControlResult:
    """The metrics of a model under one control.

    They are None if the data do not support the control. If no encoding changes, the model does not read the input, and
    the metrics are those of the unchanged split.
    """

    control: Control
    num_changed: int  # images or sentences whose inputs differ
    num_items: int
    is_read: bool  # whether any encoding differs
    is_input: bool  # whether the model needs the changed field
    reason: str = ""  # why the control was not scored; empty if it was
    recalls: Recalls | None = None
    change: Difference | None = None  # from the unchanged split, paired; `p` is adjusted for the number of controls

    def to_dict(self) -> dict[str, Any]:
        measured = self.recalls.to_dict() if self.recalls else {}
        return {
            "name": self.control.name,
            "input": self.control.subject,
            "changed": self.num_changed,
            "items": self.num_items,
            "read": self.is_read,
            "reason": self.reason,
            **measured,
            "change": asdict(self.change) if self.change else None,
        }


@dataclass(frozen=True)
class ControlReport:
    """The metrics of the unchanged split and those under each control: the result of `regard probe`."""

    recalls: Recalls
    results: tuple[ControlResult, ...]
    seed: int
    resamples: int

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        controls = [result.to_dict() for result in self.results]
        about = {"seed": self.seed, "resamples": self.resamples, "verdict": self.verdict()}
        return {**self.recalls.to_dict(), **about, "controls": controls}

    def render(self) -> str:
        """Return a table for the terminal, and the verdict."""
        width = 2 + max(len(result.control.name) for result in self.results)
        lines = [
            f"{'':{width}}{'':8}{'image to text':>21}{'text to image':>21}{'':8}{'change of rSum':>16}",
            f"{'':{width}}{'changed':>8}" + f"{'R@1':>7}{'R@5':>7}{'R@10':>7}" * 2 + f"{'rSum':>8}"
            f"{'':9}{'95 %':<17}{'p':>6}",
            f"{'no control':{width}}{'':8}" + _cells(self.recalls),
        ]
        for result in self.results:
            line = f"{result.control.name:{width}}"
            if result.recalls is None or result.change is None:
                lines.append(f"{line}{'–':>8}  {result.reason}")
                continue
            line += f"{100 * result.num_changed / max(result.num_items, 1):6.0f} %" + _cells(result.recalls)
            tested, span = result.change, f"{result.change.low:+.1f} to {result.change.high:+.1f}"
            measured = f"{tested.rsum:+8.1f} {span:<17}{tested.p:6.3f}"
            lines.append(line + (f"{0.0:8.1f} {result.reason}" if result.reason else measured))
        notes = (
            f"95 %: {self.resamples} paired draws of the images. p is corrected for the number of controls (Holm).",
            self.verdict(),
        )
        return "\n".join([*lines, *notes])

    def verdict(self) -> str:
        """Return one sentence: which inputs the model reads, and how much its rSum depends on them."""
        groups: dict[tuple[str, str], list[str]] = {}
        for subject in dict.fromkeys(result.control.subject for result in self.results):
            form, name = _finding(subject, [each for each in self.results if each.control.subject == subject])
            groups.setdefault(form, []).append(name)
        clauses = (form.format(_listed(names, word)) for (form, word), names in groups.items())
        return f"The run {'; '.join(clauses)}."

    def draw(self, path: Any) -> None:
        """Draw the changes of rSum with their intervals to a PNG."""
        rows = []
        for each in self.results:
            change = each.change if each.change and not each.reason else None
            span = (change.rsum, change.low, change.high) if change else None
            rows.append((each.control.name, span, each.reason.partition(":")[0]))
        draw_changes(rows, path, f"change of rSum, from {self.recalls.rsum:.1f}, with its 95 % interval over images")


def measure_controls(
    model: Matcher,
    split: Split,
    *,
    controls: Sequence[Control] = CONTROLS,
    seed: int = 0,
    resamples: int = 2000,
    progress: Callable[[int], object] | None = None,
) -> ControlReport:
    """Score a split as it is and under each control, all pairs each time.

    A control under which no encoding changes is not scored, because the scores cannot change. The change of rSum is
    tested as in `compare.difference`. `progress(count)` is called with the number of pairs that are done, out of
    (1 + number of controls) times those of the split. Raises InputError if the split lacks what the model needs.
    """
    parts = galleries(scores_of(model, split, progress=progress).numpy(), split.image_of_text)
    plain, results = summary(parts), list[ControlResult]()
    for control in controls:
        absence = control.absence(split)
        changed = split if absence else control.change(split, seed)
        result = _effect(model, split, changed, control, absence)
        if not result.reason:
            others = galleries(scores_of(model, changed, progress=progress).numpy(), split.image_of_text)
            change = difference(others, parts, resamples, seed)
            result = replace(result, recalls=summary(others), change=change)
        elif progress:
            progress(split.num_images * split.num_texts)
        results.append(result)
    tested = {place: result.change for place, result in enumerate(results) if result.change}
    for (place, change), p in zip(tested.items(), holm([change.p for change in tested.values()]), strict=True):
        results[place] = replace(results[place], change=replace(change, p=p))
    results = [
        replace(result, recalls=plain, change=UNCHANGED) if result.num_changed and not result.is_read else result
        for result in results
    ]
    return ControlReport(plain, tuple(results), seed, resamples)


@torch.inference_mode()
def _effect(model: Matcher, split: Split, changed: Split, control: Control, absence: str | None) -> ControlResult:
    """How many items a control changes, and whether the model reads the change; not yet scored."""
    is_of_images = control.side == "images"
    count = split.num_images if is_of_images else split.num_texts
    is_input = not control.inputs.isdisjoint(model.needs())
    if absence:
        return ControlResult(control, 0, count, False, is_input, f"not in the data: {absence}")
    num_changed, is_read, device, was_training = 0, False, next(model.parameters()).device, model.training
    model.eval()
    try:
        for rows in batch_rows(count):
            inputs: list[Any] = [
                read_images(model, each, rows) if is_of_images else read_texts(each, rows, model.tokenizer).to(device)
                for each in (split, changed)
            ]
            here = _num_different(*inputs)
            num_changed += here
            if here and not is_read:
                encode: Any = model.encode_images if is_of_images else model.encode_texts
                is_read = _num_different(*(model.for_scoring(encode(each)) for each in inputs)) > 0
    finally:
        model.train(was_training)
    if not num_changed:
        return ControlResult(control, 0, count, False, is_input, f"not in the data: no {control.side[:-1]} changes")
    reason = "" if is_read else "not read: no encoding changes"
    return ControlResult(control, num_changed, count, is_read, is_input, reason)


def _num_different(before: Batch, after: Batch) -> int:
    """The number of items that differ in any tensor."""
    joined = type(before).cat([before, after]).tensors().values()
    half = len(before)
    return int(torch.stack([(t[:half] != t[half:]).reshape(half, -1).any(1) for t in joined]).any(0).sum())


def _finding(subject: str, results: Sequence[ControlResult]) -> tuple[tuple[str, str], str]:
    """What the controls of one input show, as a form of the verdict, and the input with its largest effect."""
    tested = [(result.control.name, result.change) for result in results if result.change and result.is_read]
    if not tested:
        if all(result.recalls is None for result in results):
            return UNTESTED, f"{subject} ({results[0].reason})"
        return IDLE if results[0].is_input else UNREAD, subject
    name, change = max(tested, key=lambda each: (each[1].p < LEVEL, abs(each[1].rsum)))
    effect = f"{subject} ({name}: rSum {change.rsum:+.1f}, 95 % {change.low:+.1f} to {change.high:+.1f})"
    return READ if change.p < LEVEL else FAINT, effect


def _listed(names: Sequence[str], word: str) -> str:
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _cells(recalls: Recalls) -> str:
    *values, rsum = seven(recalls)
    return "".join(f"{value:7.1f}" for value in values) + f"{rsum:8.1f}"
