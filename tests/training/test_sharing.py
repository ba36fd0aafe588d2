"""Runs on the hub: what is uploaded and what is not, and that a downloaded run is the same one."""

import json
import shutil

import huggingface_hub
import pytest
import torch

import made
import regard
from regard.files import InputError
from regard.training.card import PLACE, write_card
from regard.training.recipe import Recipe
from regard.training.sharing import push, shared_files
from regard.training.trained_run import SHARED, TrainedRun
from regard.training.weights import build_model, save_model
from regard.words import build_tokenizer

# huggingface_hub sends an upload by a keyword that its HTTP client deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
FILES = {".gitattributes", "README.md", "model.safetensors", "recipe.toml", "vocabulary.json"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made.folder(tmp_path_factory.mktemp("sharing") / "data")


@pytest.fixture
def run(tmp_path, data):
    """A run with its card, and with files that are nobody else's business."""
    run = TrainedRun(made.run(tmp_path / "run", data))
    recipe = run.folder / "recipe.toml"
    recipe.write_text(Recipe.read(recipe, [f"words.vectors={tmp_path}/glove.txt"]).to_toml(), "utf-8")
    write_card(run)
    for name in ("last.pt", "notes.txt", "dev_scores.safetensors"):
        (run.folder / name).write_text("mine")
    return TrainedRun(run.folder)


def test_a_run_comes_back_as_it_was(run, hub, data):
    address = push(run, "user/cmsei")
    assert set(hub.files("user/cmsei")) == FILES
    assert not hub.repositories["user/cmsei"].private
    back = TrainedRun("hf://user/cmsei")
    assert back.folder != run.folder
    assert back.fingerprint == run.fingerprint
    split = run.open_split("dev", data)
    assert torch.equal(regard.scores_of(regard.load(address), split), regard.scores_of(run.model, split))
    with pytest.raises(InputError, match=r"^hf://user/cmsei does not name its data folder in data.json: give --data"):
        _ = back.data


def test_nothing_that_is_uploaded_names_the_machine(run, hub, tmp_path):
    push(run, "user/cmsei")
    for name, content in hub.files("user/cmsei").items():
        assert str(tmp_path.parent).encode() not in content, name
    assert b'vectors = "glove.txt"' in hub.files("user/cmsei")["recipe.toml"]
    card = hub.files("user/cmsei")["README.md"].decode()
    assert 'regard.load("hf://user/cmsei")' in card
    assert PLACE not in card


@pytest.mark.slow
def test_the_folder_of_a_pretrained_encoder_is_not_named(data, hub, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the extra regard[text] is not installed")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "near", *(f"w{number}" for number in range(9))]
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(words), "utf-8")
    transformers.BertTokenizerFast(str(tmp_path / "bert" / "vocab.txt")).save_pretrained(tmp_path / "bert")
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **size)).save_pretrained(tmp_path / "bert")

    folder, settings = tmp_path / "run", made.recipe("scan-f8k-minilm", f"words.path={tmp_path}/bert")
    folder.mkdir()
    tokenizer = build_tokenizer(settings.words, [])
    tokenizer.save(folder)
    (folder / "recipe.toml").write_text(settings.to_toml(), "utf-8")
    save_model(build_model(settings, 8, tokenizer), settings.model, 8, folder)
    run = TrainedRun(folder)
    write_card(run)
    push(run, "user/scan")
    for name, content in hub.files("user/scan").items():
        assert str(tmp_path.parent).encode() not in content, name
    assert json.loads(hub.files("user/scan")["pieces.json"])["path"] == "bert"
    shutil.rmtree(tmp_path / "bert")
    back, split = TrainedRun("hf://user/scan"), run.open_split("dev", data)
    assert back.fingerprint == run.fingerprint
    assert torch.equal(regard.scores_of(back.model, split), regard.scores_of(run.model, split))


def test_a_second_upload_is_a_commit_of_its_own(run, hub, data):
    first = push(run, "user/cmsei")
    other = TrainedRun(made.run(run.folder.parent / "other", data, seed=1))
    write_card(other)
    hub.repositories["user/cmsei"].commits[-1][1]["pieces.json"] = b"of an earlier run"
    second = push(other, "user/cmsei")
    assert set(hub.files("user/cmsei")) == FILES  # what the second run does not have is gone
    assert TrainedRun(first).fingerprint == run.fingerprint
    assert TrainedRun(second).fingerprint == TrainedRun("hf://user/cmsei").fingerprint == other.fingerprint


def test_a_downloaded_run_needs_no_network(run, hub):
    push(run, "user/cmsei")
    fingerprint = TrainedRun("hf://user/cmsei").fingerprint
    huggingface_hub.close_session()
    hub.shutdown()
    hub.server_close()
    assert TrainedRun("hf://user/cmsei").fingerprint == fingerprint
    with pytest.raises(InputError, match=r"The hub cannot be reached for user/other, and it is not .* in the cache \("):
        TrainedRun("hf://user/other")
    with pytest.raises(InputError, match="The hub cannot be reached for user/cmsei"):
        push(run, "user/cmsei")


def test_only_the_files_of_a_run_are_downloaded(run, hub):
    push(run, "user/cmsei")
    hub.files("user/cmsei")["last.pt"] = b"of somebody else"
    assert (
        {path.name for path in TrainedRun("hf://user/cmsei").folder.iterdir()}
        == FILES - {".gitattributes"}
        <= set(SHARED)
    )


def test_private_repositories(run, hub, monkeypatch):
    push(run, "user/secret", private=True)
    assert hub.repositories["user/secret"].private
    push(run, "user/secret", private=True)
    push(run, "user/open")
    with pytest.raises(InputError, match="user/open exists and is public"):
        push(run, "user/open", private=True)
    assert len(hub.repositories["user/open"].commits) == 2
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match=r"no repository user/secret, or it is private and closed to you"):
        TrainedRun("hf://user/secret")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("hf://user", "is not an address of a run on the hub: expected hf://user/name"),
        ("hf://a/b/c", "is not an address of a run"),
        ("hf://user/a--b", "user/a--b cannot be the name of a repository: Cannot have -- or .. in repo_id"),
        ("hf://user/nothing", "The hub has no repository user/nothing"),
        ("hf://user/cmsei@v2", "user/cmsei has no revision v2"),
        ("hf://user/texts", "hf://user/texts is not a run: the repository has no recipe.toml"),
    ],
)
def test_addresses_of_no_run(run, hub, address, reason):
    push(run, "user/cmsei")
    push(run, "user/texts")
    del hub.files("user/texts")["recipe.toml"]
    with pytest.raises(InputError, match=reason):
        TrainedRun(address)


def test_what_cannot_be_uploaded(run, hub, monkeypatch):
    with pytest.raises(InputError, match="'cmsei' is not the name of a repository: expected user/name"):
        push(run, "cmsei")
    with pytest.raises(InputError, match=r"The hub refused access to other/cmsei \(403\)"):
        push(run, "other/cmsei")
    push(run, "user/texts")
    hub.files("user/texts")["book.txt"] = hub.files("user/texts").pop("recipe.toml")
    with pytest.raises(InputError, match="user/texts contains other files and no run: name another repository"):
        push(run, "user/texts")
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(InputError, match=r"The hub refused access to user/new \(401\)"):
        push(run, "user/new")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        InputError, match=r"There is no token for the hub: log in with `hf auth login`, or set HF_TOKEN"
    ):
        push(run, "user/new")
    assert set(hub.repositories) == {"user/texts"}


def test_a_card_must_be_of_the_weights(run, data):
    (run.folder / "README.md").unlink()
    with pytest.raises(InputError, match=r"has no README.md: write it with `regard card`"):
        shared_files(run, "user/cmsei")
    other = TrainedRun(made.run(run.folder.parent / "other", data, seed=1))
    shutil.copy(write_card(other), run.folder)
    with pytest.raises(InputError, match="it describes other weights"):
        shared_files(run, "user/cmsei")
    (run.folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no model.safetensors: only a run with weights of its own"):
        push(run, "user/cmsei")
