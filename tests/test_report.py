"""What a number needs to be believed: the commit of the code that computed it, and no other's."""

import subprocess

import pytest
from omegaconf import OmegaConf

import ccreid
from ccreid import report


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository whose package stands in for this one; return the function that runs git."""

    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.invalid")
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "ccreid").mkdir()
    (tmp_path / "ccreid" / "__init__.py").write_text("")
    (tmp_path / "other.py").write_text("")
    monkeypatch.setattr(ccreid, "__file__", str(tmp_path / "ccreid" / "__init__.py"))
    return git


def commit():
    return report.origin(OmegaConf.create({"seed": 3}))["commit"]


def test_a_checkout_has_its_commit_and_says_when_it_was_changed(checkout, tmp_path):
    checkout("add", ".")
    checkout("commit", "--quiet", "--message", "a")
    assert commit() == checkout("rev-parse", "HEAD")
    (tmp_path / "ccreid" / "__init__.py").write_text("a = 1\n")
    assert commit() == checkout("rev-parse", "HEAD") + "+"


def test_an_installed_package_does_not_take_the_commit_of_the_repository_around_it(checkout):
    checkout("add", "other.py")
    checkout("commit", "--quiet", "--message", "a")
    assert commit() == ""
