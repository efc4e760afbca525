"""`waypost config` and start-up name the file, the key and what was expected, and never repeat a secret."""

import tomllib

import pytest

from waypost import command

SECRET = "sk-live-0123456789abcdef"
PROVIDER = '[[provider]]\nname = "mine"\nkind = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n'
DEPLOYMENT = PROVIDER + '[[deployment]]\nname = "mine/m"\nprovider = "mine"\nmodel = "m"\nclasses = ["code"]\ninput = 1.0\noutput = 1.0\ncontext_tokens = 1000\nmax_output_tokens = 100\n'

BAD = {
    "unknown key": ('[server]\n\nlisten_addr = "x"\n', ["line 3", "listen_addr", "`listen`"]),
    "unknown table": ("[serverr]\n", ["line 1", "serverr", "`server`"]),
    "wrong type": ('[server]\nmax_in_flight = "many"\n', ["line 2", "many"]),
    "bad TOML": ('[server\nlisten = "x"\n', ["line 1"]),
    "dangling class": (DEPLOYMENT.replace('"code"', '"cobol"'), ["mine/m", "classes", "cobol", "basic, general, code"]),
    "dangling provider": (DEPLOYMENT.replace('provider = "mine"', 'provider = "yours"'), ["mine/m", "provider", "yours"]),
    "dangling default class": ('[routing]\ndefault_class = "cobol"\n', ["routing.default_class", "cobol", "general"]),
    "dangling covers": ('[[class]]\nname = "general"\ncovers = ["cobol"]\n', ["general", "covers", "cobol"]),
    "class of the model removed": ('[[class]]\nname = "tools"\nenabled = false\n', ["tools"]),
    "name taken": (DEPLOYMENT.replace("mine/m", "auto"), ["auto", "taken"]),
    "price missing": (DEPLOYMENT.replace("input = 1.0\n", ""), ["mine/m", "input", "missing"]),
    "negative price": (DEPLOYMENT.replace("input = 1.0", "input = -1.0"), ["mine/m", "input", "-1"]),
    "no URL": (PROVIDER.replace("http://127.0.0.1:9/v1", "localhost"), ["mine", "base_url", "http://", "localhost"]),
    "unknown kind": (PROVIDER.replace('"openai"', '"telepathy"'), ["mine", "kind", "openai", "telepathy"]),
    "key not set": (PROVIDER + 'key = "env:NO_SUCH_VARIABLE"\n', ["mine", "key", "env:NO_SUCH_VARIABLE", "optional"]),
    "floor over 1": ("[policy]\nquality_floor = 1.5\n", ["policy.quality_floor", "1.5"]),
    "zero limit": ("[server]\nmax_in_flight = 0\n", ["server.max_in_flight", "at least 1"]),
    "bad named policy": ("[policies.mine]\nmax_attempts = 0\n", ["policies.mine.max_attempts"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_named(tmp_path, name):
    text, words = BAD[name]
    (tmp_path / "mine.toml").write_text(text)
    done = command("config", "check", "--config", "mine.toml", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert all(word in done.stderr for word in ["mine.toml", *words]), done.stderr
    assert "panicked" not in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        PROVIDER + f'key = "{SECRET}"\n',
        PROVIDER + f'key = "Bearer:{SECRET}"\n',
        PROVIDER + f'api_key = "{SECRET}"\n',
        PROVIDER + f'key = "env:{SECRET}"\n',
        PROVIDER + f"key = {SECRET}\n",
        PROVIDER + f'key = "{SECRET}\n',
    ],
    ids=["pasted", "with a colon", "unknown key", "behind env:", "unquoted", "quote left open"],
)
def test_a_pasted_key_is_not_repeated(tmp_path, text):
    (tmp_path / "waypost.toml").write_text(text)
    for arguments in (("config", "check"), ("config", "show"), ("serve", "--listen", "127.0.0.1:0")):
        done = command(*arguments, cwd=tmp_path)
        assert done.returncode == 1 and "waypost.toml" in done.stderr
        assert SECRET not in done.stdout + done.stderr


def test_a_good_file_passes_and_shows_where_secrets_come_from(tmp_path):
    (tmp_path / "key").write_text(SECRET)
    (tmp_path / "waypost.toml").write_text(DEPLOYMENT.replace("/v1\"\n", '/v1"\nkey = "file:key"\n', 1))
    done = command("config", "check", cwd=tmp_path, OPENAI_API_KEY=SECRET)
    assert done.returncode == 0 and "waypost.toml: good" in done.stdout and "ANTHROPIC_API_KEY" in done.stdout
    shown = command("config", "show", cwd=tmp_path, OPENAI_API_KEY=SECRET)
    assert shown.returncode == 0 and SECRET not in shown.stdout + done.stdout
    config = tomllib.loads(shown.stdout)
    mine = next(provider for provider in config["provider"] if provider["name"] == "mine")
    assert mine["key"] == "file:key" and config["server"]["listen"] == "127.0.0.1:8080"


def test_the_defaults_are_shown_with_their_documentation_and_are_good(tmp_path):
    shown = command("config", "show", "--default", cwd=tmp_path)
    assert "quality_floor = 0.4" in shown.stdout and shown.stdout.count("#") > 50
    (tmp_path / "waypost.toml").write_text(shown.stdout)
    assert command("config", "check", cwd=tmp_path).returncode == 0


def test_a_file_that_is_not_there_is_named(tmp_path):
    done = command("config", "check", "--config", "nowhere.toml", cwd=tmp_path)
    assert done.returncode == 1 and "nowhere.toml" in done.stderr


def test_an_address_in_use_is_said(tmp_path, plain):
    done = command("serve", "--listen", plain.url.removeprefix("http://"), cwd=tmp_path)
    assert done.returncode == 1 and "cannot listen on" in done.stderr and "--listen" in done.stderr


@pytest.mark.parametrize(("region", "found"), [("", False), ("eu-central-1", True)])
def test_bedrock_without_a_region_is_left_out(tmp_path, region, found):
    done = command("config", "check", cwd=tmp_path, AWS_BEARER_TOKEN_BEDROCK=SECRET, AWS_REGION=region, AWS_DEFAULT_REGION="")
    assert done.returncode == 0, done.stderr
    assert ("bedrock" not in done.stdout) == found and ("provider bedrock (its region is not set)" in done.stdout) != found
