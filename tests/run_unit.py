"""Runs a service as systemd would, from the text of its unit: `python run_unit.py UNIT`, as root.

What is applied: user and groups, what may be written, a private /tmp, no network where the unit
says so, capabilities, no new privileges, system calls by the very sets of systemd, families of
addresses, memory that is never written and executed. What is not: IPAddressDeny (it needs a control
group), and what hides files (ProtectHome, PrivateDevices, ProtectProc).
"""

import ctypes
import errno
import os
import pwd
import shlex
import socket
import subprocess
import sys
from pathlib import Path

_NEW_NS, _NEW_NET, _NEW_IPC = 0x20000, 0x40000000, 0x08000000
_RDONLY, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 32, 4096, 16384, 1 << 18
_BOUND, _NO_NEW, _MDWE = 24, 38, 65
_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | errno.EPERM

_libc = ctypes.CDLL(None, use_errno=True)


class _Compare(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


def read_unit(path: Path) -> dict[str, list[str]]:
    """Return the values of a unit's [Service] section."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def system_calls(filters: list[str]) -> set[str]:
    """Return the system calls that lines of SystemCallFilter allow."""
    allowed: set[str] = set()
    for line in filters:
        calls = {call for word in line.lstrip("~").split() for call in _members(word)}
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


def _members(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    )
    lines = [line.strip() for line in told.stdout.splitlines()[1:]]
    return {call for line in lines if line and not line.startswith("#") for call in _members(line)}


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno() or -result, what)


def _mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    words = [None if word is None else word.encode() for word in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), None), f"mount {target}")


def _fence(unit: dict[str, list[str]]) -> None:
    """Take the network and the file system away."""
    alone = unit.get("PrivateNetwork") == ["yes"]
    _check(_libc.unshare(_NEW_NS | _NEW_IPC | (_NEW_NET if alone else 0)), "unshare")
    _mount(None, "/", None, _PRIVATE | _REC)
    for folder in unit.get("ReadWritePaths", []):
        _mount(folder, folder, None, _BIND)
    for folder in ("/tmp", "/var/tmp"):
        _mount("private", folder, "tmpfs", 0)
        os.chmod(folder, 0o1777)
    assert unit["ProtectSystem"] == ["strict"]
    _mount(None, "/", None, _REMOUNT | _BIND | _RDONLY)


def _become(user: pwd.struct_passwd) -> None:
    os.initgroups(user.pw_name, user.pw_gid)
    for capability in range(64):
        _libc.prctl(_BOUND, capability, 0, 0, 0)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def _filter(calls: set[str], families: list[str]) -> None:
    """Allow these system calls alone, and sockets of these families."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_DENY)))
    for call in sorted(calls - {"socket"}):
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # of this architecture
            _check(library.seccomp_rule_add_array(context, _ALLOW, number, 0, None), call)
    number = library.seccomp_syscall_resolve_name(b"socket")
    for family in families:
        equal = _Compare(0, 4, getattr(socket, family), 0)
        rule = ctypes.byref(equal)
        _check(library.seccomp_rule_add_array(context, _ALLOW, number, 1, rule), family)
    _check(library.seccomp_load(context), "seccomp_load")


def main(name: str) -> None:
    """Become the service."""
    unit = read_unit(Path("/etc/systemd/system") / name)
    calls = system_calls(unit["SystemCallFilter"])  # asked of systemd while this is allowed
    user = pwd.getpwnam(unit["User"][0])
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    environment |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
    for file in unit.get("EnvironmentFile", []):
        for line in Path(file).read_text().splitlines():
            if line and not line.startswith("#"):
                key, _, value = line.partition("=")
                environment[key] = "".join(shlex.split(value))
    words = []
    for word in unit["ExecStart"][0].split():
        words += shlex.split(environment[word[1:]]) if word.startswith("$") else [word]
    _fence(unit)
    _become(user)
    os.umask(int(unit["UMask"][0], 8))
    os.chdir(unit["WorkingDirectory"][0])
    assert unit["NoNewPrivileges"] == ["yes"]
    _check(_libc.prctl(_NO_NEW, 1, 0, 0, 0), "no new privileges")
    if unit.get("MemoryDenyWriteExecute") == ["yes"]:
        _check(_libc.prctl(_MDWE, 1, 0, 0, 0), "memory that is never written and executed")
    _filter(calls, unit["RestrictAddressFamilies"][0].split())
    os.execve(words[0], words, environment)


if __name__ == "__main__":
    main(sys.argv[1])
