"""Captions from an OpenAI-compatible endpoint: the only place where images leave the process."""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from PIL import Image

from ccreid.annotation.captioners import Captioner
from ccreid.errors import ConfigError, DataError, require

log = logging.getLogger(__name__)

_TRY_AGAIN = (408, 409, 425, 429)  # and every status from 500 on


class _NoRedirect(HTTPRedirectHandler):
    """Images and key go to the address the user named, not to one that a server names."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class EndpointCaptioner(Captioner):
    """A model behind `<url>/chat/completions`, as vLLM, llama.cpp, Ollama and others serve it.

    Images go to this address and nowhere else: no proxy is used and no redirect followed. An
    address beyond this machine must be allowed in so many words.

    Args:
        url: up to and without `/chat/completions`, for instance http://localhost:8000/v1.
        model: the model's name at the endpoint.
        allow_remote: the images may leave this machine.
        key_variable: the environment variable that holds the key; None for none.
        parallel: requests at the same time.
        max_tokens: an answer is cut off after so many.
        timeout: seconds that a request may take.
        retries: further tries after a timeout, a broken connection, a server's error or an answer
            that makes no sense.
        backoff: seconds before the first retry; every further one waits twice as long.

    Raises:
        ConfigError: an impossible or remote address, or no key in the variable.
    """

    def __init__(
        self,
        url: str,
        model: str | None,
        allow_remote: bool = False,
        key_variable: str | None = None,
        parallel: int = 4,
        max_tokens: int = 60,
        timeout: float = 120.0,
        retries: int = 4,
        backoff: float = 2.0,
    ) -> None:
        require(bool(model), "captioner.model", model, "the model's name at the endpoint")
        require(parallel >= 1, "captioner.parallel", parallel, "1 or more")
        require(max_tokens >= 1, "captioner.max_tokens", max_tokens, "1 or more")
        require(timeout > 0, "captioner.timeout", timeout, "above 0")
        require(retries >= 0, "captioner.retries", retries, "0 or more")
        require(backoff >= 0, "captioner.backoff", backoff, "0 or more")
        self.address = f"{_allowed(url, allow_remote).rstrip('/')}/chat/completions"
        self.model, self.name = model, f"{model} behind an endpoint"
        self.headers = {"Content-Type": "application/json", **_authorization(key_variable)}
        self.parallel, self.batch_size = parallel, parallel
        self.max_tokens, self.timeout = max_tokens, timeout
        self.retries, self.backoff = retries, backoff
        self.opener = build_opener(ProxyHandler({}), _NoRedirect())

    def answer(self, images: Sequence[Image.Image], prompt: str) -> list[str]:
        """Return what the model says of every image when asked this."""
        with ThreadPoolExecutor(self.parallel) as threads:
            return list(threads.map(lambda image: self._ask(image, prompt), images))

    def _ask(self, image: Image.Image, prompt: str) -> str:
        question = [
            {"type": "image_url", "image_url": {"url": _data_url(image)}},
            {"type": "text", "text": prompt},
        ]
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
        }
        request = Request(self.address, json.dumps(body).encode(), self.headers, method="POST")
        problem = ""
        for attempt in range(self.retries + 1):
            if attempt:
                pause = self.backoff * 2 ** (attempt - 1)
                log.warning("%s, try %d in %g s: %s", self.address, attempt + 1, pause, problem)
                time.sleep(pause)
            try:
                with self.opener.open(request, timeout=self.timeout) as response:
                    return _content(response.read())
            except HTTPError as error:
                problem = f"status {error.code}: {error.read(200).decode(errors='replace')}"
                if error.code < 500 and error.code not in _TRY_AGAIN:
                    raise ConfigError(f"{self.address} refuses the request, {problem}") from None
            except (URLError, HTTPException, OSError, _Malformed) as error:
                problem = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{self.address} did not answer in {self.retries + 1} tries; the last one: {problem}\n"
            "Start the server, or say where it is: captioner.url=http://<host>:<port>/v1. What was "
            "written until here is kept: the same command goes on from there."
        )


class _Malformed(ValueError):
    """An answer is no chat completion."""


def _content(answer: bytes) -> str:
    try:
        text = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        text = 0
    if text is None:
        return ""  # the model declines
    if not isinstance(text, str):
        raise _Malformed(f"no chat completion: {answer[:200].decode(errors='replace')}")
    return text


def _data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, format="PNG")  # encoded anew: nothing but the pixels goes out
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _allowed(url: str, allow_remote: bool) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_plain = parts.scheme in ("http", "https") and host and not (parts.username or parts.query)
    require(bool(is_plain), "captioner.url", url, "like http://localhost:8000/v1")
    if not allow_remote and not _is_this_machine(host):
        raise ConfigError(
            f"captioner.url: {host} is not this machine, and the images of people would be sent "
            "to it. If you may and want to do that, say captioner.allow_remote=true"
        )
    return url


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _authorization(variable: str | None) -> dict[str, str]:
    if variable is None:
        return {}
    key = os.environ.get(variable)
    if not key:
        raise ConfigError(
            f"captioner.key_variable={variable}: this environment variable is not set. Export the "
            "endpoint's key in it."
        )
    return {"Authorization": f"Bearer {key}"}
