"""The configuration: what is read, what is refused, and in which words."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libo2cb.config import ConfigError, find_config, load, parse
from libo2cb.config_problems import line_of

REAL = """\
[engine]
kind = "corosync"

[kernel]
driver = "links"
"""

SANDBOX = """\
[engine]
kind = "sandbox"
hub = "/srv/s/hub.sock"
node = "n1"

[kernel]
driver = "sandbox"
root = "/srv/s/n1/kernel"

[fencing]
command = ["o2cb_sandbox", "kill"]
"""

FILE = Path("/etc/ocfs2/controld.toml")


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text, FILE)
    return caught.value


def test_a_short_file_for_a_real_cluster_has_the_documented_defaults() -> None:
    config = parse(REAL)
    assert config.cluster.port == 7777
    assert config.cluster.name is None
    assert config.fencing.kind == "manual"
    assert (config.timeouts.mount, config.timeouts.grace, config.timeouts.join_delay) == (300, 30, 30)
    assert (config.sockets.clients, config.sockets.ordering) == ("@ocfs2_controld_sock", "@o2cb_controld_sock")
    assert config.sockets.run == Path("/run/ocfs2")
    assert config.sockets.max_per_uid == 1000
    assert config.kernel.tree == Path("/sys/kernel/config")


def test_in_the_sandbox_fencing_is_a_command_that_must_be_given() -> None:
    config = parse(SANDBOX)
    assert (config.fencing.kind, config.fencing.command) == ("command", ("o2cb_sandbox", "kill"))
    assert config.kernel.tree == Path("/srv/s/n1/kernel")
    without = SANDBOX.partition("[fencing]")[0]
    assert "fencing.command must name the program" in str(refused(without))
    assert parse(without + '[fencing]\nkind = "none"\n').fencing.kind == "none"


def test_the_sandbox_is_never_chosen_silently() -> None:
    error = refused("")
    assert [problem.key for problem in error.problems] == ["engine", "kernel"]
    assert "table [engine] is needed" in str(error)
    assert "'corosync' or 'sandbox'" in str(refused('[engine]\n[kernel]\ndriver = "links"\n'))


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        (REAL + "\n[cluster]\nprot = 1\n", 8, "cluster.prot", 'unknown key (did you mean "port"?)'),
        (REAL + "[sokets]\n", 6, "sokets", 'did you mean "sockets"?'),
        ("colour = 1\n" + REAL, 1, "colour", "known here: cluster, engine"),
        (REAL + "[cluster]\nport = 0\n", 7, "cluster.port", "greater than or equal to 1, not 0"),
        (REAL + "[cluster]\nport = 65535\n", 7, "cluster.port", "65534"),
        (REAL + '[cluster]\nport = "7777"\n', 7, "cluster.port", "valid integer"),
        (REAL + "[cluster]\nport = true\n", 7, "cluster.port", "valid integer"),
        (REAL + '[cluster]\nname = "seventeen bytes.."\n', 7, "cluster.name", "1 to 16 bytes, this one has 17"),
        (REAL + '[cluster]\nname = "a/b"\n', 7, "cluster.name", "directory name"),
        (REAL + "[timeouts]\nmount = nan\n", 7, "timeouts.mount", "finite"),
        (REAL + "[timeouts]\ngrace = -1\n", 7, "timeouts.grace", "greater than 0"),
        (REAL + "[status]\nwaiting = 60\n", 7, "status.waiting", "less than or equal to 5"),
        (REAL + '[log]\nformat = "xml"\n', 7, "log.format", "'human' or 'json'"),
        (REAL + '[sockets]\nrun = "run"\n', 7, "sockets.run", "not an absolute path"),
        (REAL + '[sockets]\nclients = "sock"\n', 7, "sockets.clients", 'neither "@NAME"'),
        (REAL + '[sockets]\nclients = "@x"\nordering = "@x"\n', 8, "sockets.ordering", "two names"),
        (REAL + '[fencing]\nkind = "command"\n', 6, "fencing", "fencing.command must name"),
        (REAL + '[fencing]\ncommand = ["x"]\n', 6, "fencing", 'say kind = "command"'),
        (REAL + '[fencing]\nkind = "command"\ncommand = ["a",\n  7]\n', 8, "fencing.command.1", "valid string, not 7"),
        (
            '[engine]\nkind = "sandbox"\n[kernel]\ndriver="links"\n[fencing]\nkind="none"\n',
            1,
            "engine",
            "engine.hub and engine.node",
        ),
        (REAL.replace("[kernel]", 'hub = "/h"\n[kernel]'), 4, "engine.hub", "only the sandbox has this key"),
        ('engine = "corosync"\n[kernel]\ndriver="links"\n', 1, "engine", "is a table: write [engine]"),
        ('[engine]\nkind = "corosync"\n[kernel]\ndriver = "sandbox"\n', 3, "kernel", "kernel.root"),
    ],
)
def test_an_error_names_file_line_key_and_what_to_do(text: str, line: int, key: str, words: str) -> None:
    error = refused(text)
    assert len(error.problems) == 1, str(error)
    assert str(error).startswith(f"{FILE} line {line}: {key}: ")
    assert words in str(error)


def test_all_errors_are_told_at_once() -> None:
    error = refused(REAL + "[cluster]\nport = 0\n[log]\nlevel = 3\n")
    assert [(problem.line, problem.key) for problem in error.problems] == [(7, "cluster.port"), (9, "log.level")]


@pytest.mark.parametrize(
    ("text", "line"), [("a = 1\nb =\n", 2), ("a = 1\na = 2\n", 2), ("[x\n", 1), ('a = 1\nb = """\nc\n', 4)]
)
def test_what_is_no_toml_is_shown_by_line(text: str, line: int) -> None:
    assert str(refused(text)).startswith(f"{FILE} line {line}: is no TOML: ")


@pytest.mark.parametrize("name", ["@" + "n" * 107, "/" + "n" * 106])
def test_a_socket_name_may_fill_sun_path_and_no_more(name: str) -> None:
    assert parse(REAL + f'[sockets]\nclients = "{name}"\n').sockets.clients == name
    error = refused(REAL + f'[sockets]\nclients = "{name}n"\n')
    assert "the name takes 109 bytes, and the kernel has room for 108" in str(error)


@pytest.mark.parametrize("driver", ["links", "classic", "sandbox"])
def test_corosync_goes_with_every_driver(driver: str) -> None:
    config = parse(f'[engine]\nkind = "corosync"\n[kernel]\ndriver = "{driver}"\nroot = "/x/kernel"\n')
    assert (config.engine.kind, config.kernel.driver) == ("corosync", driver)


def test_the_option_goes_before_the_environment_and_that_before_the_default(tmp_path: Path) -> None:
    option, variable = tmp_path / "option.toml", tmp_path / "variable.toml"
    option.write_text(REAL)
    variable.write_text(REAL)
    environ = {"OCFS2_CONTROLD_CONFIG": str(variable)}
    assert find_config(option, environ) == option
    assert find_config(None, environ) == variable
    with pytest.raises(ConfigError, match=r"named by --config"):
        find_config(tmp_path / "no.toml", environ)
    with pytest.raises(ConfigError, match=r"named by \$OCFS2_CONTROLD_CONFIG"):
        find_config(None, {"OCFS2_CONTROLD_CONFIG": str(tmp_path / "no.toml")})


def test_without_any_file_both_ways_to_go_on_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("libo2cb.config.DEFAULT_PATH", tmp_path / "controld.toml")
    with pytest.raises(ConfigError) as caught:
        find_config(None, {})
    assert "--config FILE" in str(caught.value)
    assert "o2cb_sandbox up" in str(caught.value)


def test_a_file_is_read_and_its_limits_are_named(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(SANDBOX.replace("\n", "\r\n").encode())
    assert load(path) == parse(SANDBOX)
    path.write_bytes(b"#\n# \xff\n" + REAL.encode())
    with pytest.raises(ConfigError, match=r"c\.toml line 2: TOML is written in UTF-8"):
        load(path)
    path.write_bytes(b"#" * 70_000)
    with pytest.raises(ConfigError, match="larger than"):
        load(path)
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


def test_the_port_option_overrides_the_file() -> None:
    config = parse(REAL)
    assert config.with_port(7000).cluster.port == 7000
    assert config.with_port(None) == config
    assert config.cluster.port == 7777


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(parse(REAL), "cluster", None)  # noqa: B010 (a plain assignment would not get past mypy)


def test_keys_are_found_however_they_are_spelled() -> None:
    text = 'a.b = 1\n"a".c = """\nx = 1\n"""\nx = {y = 1}\n# z = 1\n[t]\n\nz = [\n 1,\n 2 ]\nq = 1\n'
    found = {key: line_of(text, key) for key in [("a", "b"), ("a", "c"), ("x",), ("x", "y"), ("t",), ("t", "z", 1)]}
    assert found == {("a", "b"): 1, ("a", "c"): 2, ("x",): 5, ("x", "y"): 5, ("t",): 7, ("t", "z", 1): 9}
    assert line_of(text, ("t", "q")) == 12
    assert line_of(text, ("z",)) is None


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_clear_error(text: str) -> None:
    try:
        said = str(parse(text, FILE).engine.kind)
    except ConfigError as error:
        said = str(error)
    assert said.startswith((os.fspath(FILE), "corosync", "sandbox"))
