"""The systemd units: what stands in them, where they look for the daemons, and that systemd understands them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from libo2cb.service.units import PACKAGED, UNITS, install, text
from libo2cb.service.units.__main__ import main
from ocfs2_controld.__main__ import NOT_NEEDED

ANALYZE = shutil.which("systemd-analyze")


def read(unit: str) -> dict[str, dict[str, str]]:
    """A unit by section and key; of a key that comes twice, the values with a blank between."""
    found: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in text(unit, Path("/opt/o/bin")).splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section[key] = f"{section[key]} {value}" if key in section else value
    return found


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_starts_its_daemon_where_it_is_and_never_kills_it_under_a_mount(unit: str) -> None:
    service = read(unit)["Service"]
    assert service["ExecStart"] == f"/opt/o/bin/{unit.removesuffix('.service')}"
    assert (service["Type"], service["NotifyAccess"], service["TimeoutStartSec"]) == ("notify", "main", "infinity")
    assert (service["KillMode"], service["SendSIGKILL"]) == ("process", "no")
    assert service["Restart"] == "always"
    assert (service["RuntimeDirectory"], service["RuntimeDirectoryPreserve"]) == ("ocfs2", "yes")
    assert read(unit)["Unit"]["StartLimitIntervalSec"] == "0"


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_has_no_mount_namespace_and_may_make_callbacks(unit: str) -> None:
    """What would hide the machine's mount table, by systemd.exec(5), or break cffi's callbacks."""
    namespaces = {
        *("PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectSystem", "ProtectHome", "ProtectKernelTunables"),
        *("ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ProcSubset"),
        *("ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "BindPaths", "BindReadOnlyPaths", "RootDirectory"),
        *("TemporaryFileSystem", "DynamicUser", "MountFlags", "MemoryDenyWriteExecute"),
    }
    assert not namespaces & set(read(unit)["Service"])


def test_ocfs2_controld_comes_after_o2cb_controld_and_does_not_go_with_it() -> None:
    unit = read("ocfs2_controld.service")["Unit"]
    assert "o2cb_controld.service" in unit["After"].split()
    assert "o2cb_controld.service" in unit["Wants"].split()
    assert not {"Requires", "BindsTo", "PartOf", "Requisite"} & set(unit)
    service = read("ocfs2_controld.service")["Service"]
    assert service["SuccessExitStatus"] == service["RestartPreventExitStatus"] == str(NOT_NEEDED)


def test_units_are_written_with_the_path_of_these_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    assert main([str(tmp_path), "--programs", str(programs)]) == 1
    assert "o2cb_controld: No such file" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.service")), "nothing is written that could not be started"
    for unit in UNITS:
        (programs / unit.removesuffix(".service")).touch()
    assert main([str(tmp_path), "--programs", str(programs)]) == 0
    for unit in UNITS:
        assert f"ExecStart={programs}/{unit.removesuffix('.service')}\n" in (tmp_path / unit).read_text()
        assert f"ExecStart={PACKAGED}" in text(unit, Path(PACKAGED))


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not here (Debian: systemd)")
def test_systemd_understands_them(tmp_path: Path) -> None:
    install(tmp_path, Path(sys.executable).parent)
    command = [str(ANALYZE), "verify", "--man=no", "--recursive-errors=no", *(str(tmp_path / u) for u in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    wrong = tmp_path / UNITS[0]
    wrong.write_text(wrong.read_text().replace("SendSIGKILL", "SendSIGKILLS"))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "SendSIGKILLS" in done.stderr, "it would not be seen"
