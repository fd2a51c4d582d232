"""The unprivileged account under which root runs PostgreSQL, and which folders are open to it."""

import os
import pwd
import stat
from pathlib import Path

ACCOUNTS = ("postgres", "nobody")
"""The first that exists is taken; Debian always has the second. No account is created."""


def service_account() -> pwd.struct_passwd | None:
    """Return the account for PostgreSQL, which refuses to run as root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next((known[name] for name in ACCOUNTS if name in known), None)


def closed_to(path: Path, account: pwd.struct_passwd) -> Path | None:
    """Return the first folder down to `path` that `account` may not enter, None if all are open."""
    absolute = path.absolute()
    for folder in (*reversed(absolute.parents), absolute):
        if not folder.exists():
            return None  # it will be made by us, open
        if not _may_enter(folder, account):
            return folder
    return None


def _may_enter(folder: Path, account: pwd.struct_passwd) -> bool:
    info = folder.stat()
    if info.st_uid == account.pw_uid:
        return bool(info.st_mode & stat.S_IXUSR)
    if info.st_gid == account.pw_gid:
        return bool(info.st_mode & stat.S_IXGRP)
    return bool(info.st_mode & stat.S_IXOTH)
