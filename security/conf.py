"""Where the files of ``conf/`` are: beside the packages in a checkout, in ``share/poterne/conf`` when installed."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from security.errors import Broken


def conf_dir() -> Path:
    """The folder of the data files that ship with this version.

    A folder ``conf`` beside the packages counts only in a checkout: once installed, another distribution may own
    that name.

    Raises:
        Broken: ``conf-missing`` the installation is incomplete.
    """
    root = Path(__file__).resolve().parents[1]
    checkout = (root / "pyproject.toml").is_file()
    folder = root / "conf" if checkout else Path(sysconfig.get_path("data")) / "share" / "poterne" / "conf"
    if not folder.is_dir():
        raise Broken(
            f"the data files of Poterne are not at {folder}",
            code="conf-missing",
            hint="install the wheel in an environment of its own, or work in a complete checkout",
        )
    return folder
