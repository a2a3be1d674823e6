"""The verb that describes images: a small random model from a folder, a small endpoint on this
machine that looks at the picture it gets, and everything that can go wrong with it."""

import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from ccreid.annotation.captioners import LocalCaptioner
from ccreid.annotation.endpoint import EndpointCaptioner
from ccreid.caption import caption
from ccreid.config import CONF_DIR, compose
from ccreid.data.captions import CaptionStore
from ccreid.data.captions.files import PERSPECTIVES, image_key, read_captions
from ccreid.encode_text import encode_text
from ccreid.errors import ConfigError, DataError
from ccreid.runs.jobs import hold

PEOPLE = (1, 2, 3)


@pytest.fixture
def archive(tmp_path):
    """Pictures of one colour: its red says whose it is, its green under which camera."""
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as file:
        for split, pids in {"train": PEOPLE, "query": [8], "gallery": [8]}.items():
            for pid in pids:
                for camera in range(2):
                    picture = io.BytesIO()
                    Image.new("RGB", (16, 32), (20 * pid, 100 * camera, 0)).save(picture, "PNG")
                    name = f"mine/{split}/{pid:04d}_o0_c{camera:02d}_00.jpg"
                    file.writestr(name, picture.getvalue())
    return path


class Endpoint(ThreadingHTTPServer):
    """Answers `pid <n> camera <n>: <prompt>`, after what `faults` say about the first requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults, self.requests, self.lock = [], [], threading.Lock()
        self.silent_about = None
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), body))
            fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, int):
            self.send_response(fault)
            self.send_header("Location", f"{self.server.url}/elsewhere")
            self.end_headers()
            return self.wfile.write(b"out of order")
        if fault == "sleep":
            time.sleep(1.0)
        if fault == "cut":
            return self.connection.close()
        content = fault if isinstance(fault, bytes) else self.completion(body)
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client may no longer wait
            self.wfile.write(content)

    def completion(self, body):
        image, text = body["messages"][0]["content"]
        kind, _, pixels = image["image_url"]["url"].partition(",")
        assert kind == "data:image/png;base64"
        red, green, _ = Image.open(io.BytesIO(base64.b64decode(pixels))).getpixel((0, 0))
        answer = f"  pid {red // 20}\n camera {green // 100}: {text['text']} "
        if self.server.silent_about == red // 20:
            answer = None
        return json.dumps({"choices": [{"message": {"content": answer}}]}).encode()


@pytest.fixture
def endpoint():
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def config(archive, endpoint, folder, *overrides):
    return compose(
        "caption",
        [
            "data=virtual",
            f"data.archive={archive}",
            "captioner=endpoint",
            f"captioner.url={endpoint.url}",
            "captioner.model=tiny",
            "captioner.backoff=0.01",
            "captioner.parallel=2",
            f"folder={folder}",
            *(f"prompts.{name}={name}?" for name in PERSPECTIVES),
            *overrides,
        ],
    )


def expected_captions(names=PERSPECTIVES):
    return {
        f"train/{pid:04d}_o0_c{camera:02d}_00.jpg": {
            name: f"pid {pid} camera {camera}: {name}?" for name in names
        }
        for pid in PEOPLE
        for camera in range(2)
    }


def test_every_train_image_is_asked_about_once_per_perspective(archive, endpoint, tmp_path):
    path = caption(config(archive, endpoint, tmp_path / "text"))
    assert read_captions(path) == expected_captions()
    assert len(endpoint.requests) == 6 * len(PERSPECTIVES)
    address, headers, body = endpoint.requests[0]
    assert address == "/v1/chat/completions"
    assert "Authorization" not in headers
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("tiny", 60, 0)


def test_what_is_there_is_not_asked_again_and_a_half_line_is_redone(archive, endpoint, tmp_path):
    path = caption(config(archive, endpoint, tmp_path / "text"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:50])
    endpoint.requests.clear()
    caption(config(archive, endpoint, tmp_path / "text"))
    assert read_captions(path) == expected_captions()
    assert len(endpoint.requests) == 4 * len(PERSPECTIVES)
    endpoint.requests.clear()
    caption(config(archive, endpoint, tmp_path / "text"))
    assert endpoint.requests == []


def test_a_further_perspective_is_added_to_what_is_there(archive, endpoint, tmp_path):
    path = caption(config(archive, endpoint, tmp_path / "text", "perspectives=[clothing]"))
    assert read_captions(path) == expected_captions(["clothing"])
    endpoint.requests.clear()
    caption(config(archive, endpoint, tmp_path / "text", "perspectives=[clothing,pose]"))
    assert read_captions(path) == expected_captions(["clothing", "pose"])
    assert len(endpoint.requests) == 6


@pytest.mark.parametrize(
    "fault",
    [500, 503, 429, "cut", "sleep", b"", b"<html>", b"[]", b'{"choices": []}', b'{"error": "x"}'],
)
def test_a_passing_fault_is_tried_again(archive, endpoint, tmp_path, fault):
    endpoint.faults = [fault, fault]
    path = caption(config(archive, endpoint, tmp_path / "text", "captioner.timeout=0.3"))
    assert read_captions(path) == expected_captions()
    assert len(endpoint.requests) == 6 * len(PERSPECTIVES) + 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (500, "status 500: out of order"),
        (b"<html>", "no chat completion: <html>"),
        ("sleep", "timed out"),
        ("cut", "the last one"),
    ],
)
def test_an_interruption_keeps_what_was_written(archive, endpoint, tmp_path, fault, said, caplog):
    first_batch = [None] * 2 * len(PERSPECTIVES)
    endpoint.faults = first_batch + [fault] * 100
    settings = ("captioner.retries=2", "captioner.timeout=0.3")
    with pytest.raises(DataError, match=f"did not answer in 3 tries(.|\n)*{said}"):
        caption(config(archive, endpoint, tmp_path / "text", *settings))
    assert "try 3 in 0.02 s: " in caplog.text
    kept = read_captions(tmp_path / "text" / "captions.jsonl")
    assert kept == dict(list(expected_captions().items())[:2])
    endpoint.faults.clear()
    endpoint.requests.clear()
    path = caption(config(archive, endpoint, tmp_path / "text"))
    assert read_captions(path) == expected_captions()
    assert len(endpoint.requests) == 4 * len(PERSPECTIVES)


@pytest.mark.parametrize("status", [400, 401, 404, 302, 307])
def test_a_refusal_is_not_repeated_and_no_redirect_is_followed(archive, endpoint, tmp_path, status):
    endpoint.faults = [status] * 100
    with pytest.raises(ConfigError, match=f"refuses the request, status {status}"):
        caption(config(archive, endpoint, tmp_path / "text", "captioner.parallel=1"))
    ((address, _, _),) = endpoint.requests
    assert address == "/v1/chat/completions"


def test_an_image_that_the_model_says_nothing_of_stays_without_text(archive, endpoint, tmp_path):
    endpoint.silent_about = 2
    path = caption(config(archive, endpoint, tmp_path / "text"))
    wanted = {key: texts for key, texts in expected_captions().items() if "/0002" not in key}
    assert read_captions(path) == wanted


def test_a_model_that_says_nothing_at_all_is_refused(archive, endpoint, tmp_path):
    endpoint.silent_about = 1
    with pytest.raises(DataError, match="nothing to say of any of the first 2 images"):
        caption(config(archive, endpoint, tmp_path / "text"))


def test_captions_of_two_models_or_prompts_are_not_mixed(archive, endpoint, tmp_path):
    caption(config(archive, endpoint, tmp_path / "text"))
    with pytest.raises(ConfigError, match="by tiny behind an endpoint, not by other"):
        caption(config(archive, endpoint, tmp_path / "text", "captioner.model=other"))
    with pytest.raises(ConfigError, match=r"of another prompt \(pose\)"):
        caption(config(archive, endpoint, tmp_path / "text", "prompts.pose=how?"))
    (tmp_path / "text" / "captioner.json").unlink()
    with pytest.raises(ConfigError, match="by an unknown author"):
        caption(config(archive, endpoint, tmp_path / "text"))


def test_two_commands_do_not_write_one_file(archive, endpoint, tmp_path):
    (tmp_path / "text").mkdir()
    with hold(tmp_path / "text"), pytest.raises(ConfigError, match="Another process"):
        caption(config(archive, endpoint, tmp_path / "text"))


def test_no_proxy_gets_the_images(archive, endpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.delenv("no_proxy", raising=False)
    path = caption(config(archive, endpoint, tmp_path / "text", "captioner.retries=0"))
    assert read_captions(path) == expected_captions()


def test_the_key_comes_from_the_environment_and_goes_into_no_file(
    archive, endpoint, tmp_path, monkeypatch
):
    settings = (archive, endpoint, tmp_path / "text", "captioner.key_variable=MY_KEY")
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ConfigError, match="MY_KEY: this environment variable is not set"):
        caption(config(*settings))
    monkeypatch.setenv("MY_KEY", "secret-7")
    caption(config(*settings))
    assert {headers["Authorization"] for _, headers, _ in endpoint.requests} == {"Bearer secret-7"}
    written = [file.read_text() for file in (tmp_path / "text").iterdir()]
    assert not any("secret-7" in text for text in written)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/v1",
        "https://10.0.0.7:8000/v1",
        "http://localhost.example.org/v1",
        "http://127.0.0.1.example.org/v1",
        "http://[2001:db8::1]/v1",
    ],
)
def test_images_leave_this_machine_only_when_allowed(url):
    with pytest.raises(ConfigError, match=r"is not this machine.*allow_remote=true"):
        EndpointCaptioner(url, "tiny")
    allowed = EndpointCaptioner(url, "tiny", allow_remote=True)
    assert urlsplit(allowed.address).hostname == urlsplit(url).hostname


@pytest.mark.parametrize(
    "url", ["http://localhost/v1", "https://127.8.0.1/", "http://[::1]:80/v1/"]
)
def test_addresses_of_this_machine(url):
    assert EndpointCaptioner(url, "tiny").address == f"{url.rstrip('/')}/chat/completions"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "localhost:8000/v1"}, "captioner.url"),
        ({"url": "file:///etc"}, "captioner.url"),
        ({"url": "http://user:word@localhost/v1"}, "captioner.url"),
        ({"model": None}, "captioner.model"),
        ({"parallel": 0}, "captioner.parallel"),
        ({"timeout": 0}, "captioner.timeout"),
        ({"retries": -1}, "captioner.retries"),
    ],
)
def test_impossible_settings_of_an_endpoint(settings, said):
    with pytest.raises(ConfigError, match=said):
        EndpointCaptioner(**{"url": "http://localhost/v1", "model": "tiny"} | settings)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A LLaVA of 30 thousand parameters with a tokenizer of some words."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "USER:", "ASSISTANT:"]
    words = [*special, "a", "tall", "short", "man", "woman", "hair"]
    backend = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=["<image>"],
    )
    side = {"height": 28, "width": 28}
    processor = transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template="{% for m in messages %}USER: {% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }} {% endif %}"
        "{% endfor %}{% endfor %}ASSISTANT:",
    )
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    vision = transformers.CLIPVisionConfig(
        **small, num_attention_heads=2, image_size=28, patch_size=14, projection_dim=16
    )
    text = transformers.LlamaConfig(
        **small,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=len(words),
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    network = transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(
            vision_config=vision, text_config=text, image_token_index=4, image_token_id=4
        )
    )
    with torch.no_grad():  # let it look at the picture, and speak
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5)
    network.generation_config.suppress_tokens = list(range(len(special)))
    folder = tmp_path_factory.mktemp("models") / "tiny_vlm"
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def noise(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_local_model_says_the_same_in_a_batch_as_alone(model_folder):
    transformers = pytest.importorskip("transformers")
    captioner = LocalCaptioner(str(model_folder), max_new_tokens=6).to(torch.device("cpu"))
    images = [noise(seed) for seed in range(4)]
    answers = captioner.describe(images, "a tall man")
    processor = transformers.AutoProcessor.from_pretrained(model_folder)
    network = transformers.LlavaForConditionalGeneration.from_pretrained(model_folder).eval()
    for image, answer in zip(images, answers, strict=True):
        inputs = processor(
            text="USER: <image> a tall man ASSISTANT:", images=image, return_tensors="pt"
        )
        with torch.no_grad():
            tokens = network.generate(**inputs, max_new_tokens=6, do_sample=False)
        alone = processor.decode(tokens[0, inputs["input_ids"].shape[1] :])
        assert answer == alone
        assert 1 <= len(answer.split()) <= 6
    assert len(set(answers)) > 1  # it looked


def test_from_images_to_features_with_a_local_model(model_folder, archive, tmp_path):
    folder = tmp_path / "text"
    path = caption(
        compose(
            "caption",
            [
                "data=virtual",
                f"data.archive={archive}",
                "captioner=transformers",
                f"captioner.model={model_folder}",
                "captioner.batch_size=4",
                "captioner.max_new_tokens=6",
                "device=cpu",
                f"folder={folder}",
            ],
        )
    )
    captions = read_captions(path)
    assert {tuple(texts) for texts in captions.values()} == {PERSPECTIVES}
    data = ["data=virtual", f"data.archive={archive}"]
    settings = compose("encode_text", [*data, "encoder=tfidf", f"folder={folder}"])
    encode_text(settings)
    from ccreid.build import instantiate

    benchmark = instantiate(settings.data.benchmark)
    assert set(captions) == {image_key(s) for s in benchmark.train}
    store = CaptionStore(benchmark, layout="ccreid", folder=folder)
    assert store.get(benchmark.train[0]).shape == (3, store.dim)


def test_a_model_that_cannot_be_asked_or_had(model_folder, tmp_path):
    mute = tmp_path / "mute"
    mute.mkdir()
    for file in model_folder.iterdir():
        if file.name != "chat_template.jinja":
            (mute / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match="no chat template"):
        LocalCaptioner(str(mute))
    with pytest.raises(ConfigError, match=r"captioner\.model=.*local folder"):
        LocalCaptioner(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("perspectives", "said"), [("clothing", "a list"), ("[clohting]", "Did you mean 'clothing'")]
)
def test_unknown_perspectives_are_refused(archive, endpoint, tmp_path, perspectives, said):
    with pytest.raises(ConfigError, match=said):
        caption(config(archive, endpoint, tmp_path, f"perspectives={perspectives}"))


def test_every_perspective_has_a_prompt():
    cfg = compose("caption", ["data=prcc", "captioner=transformers"])
    assert tuple(cfg.prompts) == PERSPECTIVES == tuple(cfg.perspectives)
    assert all(len(prompt.split()) > 10 for prompt in cfg.prompts.values())
    assert (CONF_DIR / "prompts" / "default.yaml").exists()


def test_the_verb_shows_a_mistake_without_a_traceback(tmp_path):
    process = subprocess.run(
        [
            *(sys.executable, "-m", "ccreid.caption", "data=virtual", "captioner=endpoint"),
            *("captioner.model=tiny", "captioner.url=http://example.org/v1"),
        ],
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert process.returncode == 2
    assert "captioner.allow_remote=true" in process.stderr
    assert "Traceback" not in process.stderr
