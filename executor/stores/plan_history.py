"""The versions that the name of a saved plan had: each text that was saved under it, when, and by whom.

A version is written in the transaction that saves or deletes the plan, so that the history never differs from what happened. A store may have
plans that were saved before it had histories, or by an older firmplan beside this one: such a plan gets its version, without an author, as
soon as the next one is saved, and is shown as the last version until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...plans.values import digest_of_text
from .store import PLAN_COLUMNS, PlanVersion, digest_of_plan

if TYPE_CHECKING:
    from .sql_store import Sql

VERSIONS_MAX: Final = 1_000  # of one name: a plan that is saved by a program each hour has six weeks of them
_COLUMNS: Final = "name, version, plan, digest, text_digest, saved, author, row_digest"
_FIND_NOW: Final = f"SELECT {PLAN_COLUMNS} FROM @plans WHERE name=:name"
_FIND_LAST: Final = "SELECT version, text_digest FROM @plan_versions WHERE tenant='' AND name=:name ORDER BY version DESC LIMIT 1"
_LIST: Final = """
    SELECT version, digest, text_digest, saved, author FROM @plan_versions WHERE tenant='' AND name=:name ORDER BY version DESC
"""
_READ: Final = (
    "SELECT plan, row_digest FROM @plan_versions WHERE tenant='' AND name=:name AND version=:version"
)
_ADD: Final = f"""
    INSERT INTO @plan_versions ({_COLUMNS}) VALUES (:{_COLUMNS.replace(", ", ", :")})
"""
_FORGET: Final = "DELETE FROM @plan_versions WHERE tenant='' AND name=:name AND version <= :until"


class PlanHistory:
    """The history of one name, inside a transaction. It locks the plan's row, so that two savers get different numbers.

    Args:
        sql: The transaction.
        name: The name.
    """

    def __init__(self, sql: Sql, name: str) -> None:
        self._sql = sql
        self._name = name
        self._before = sql.rows(f"{_FIND_NOW}{sql.lock}", {"name": name})

    def add(self, plan: str, digest: str, at: float, author: str) -> None:
        """Add what was just saved under the name, unless its text is that of the last version; an empty plan says that the name was deleted."""
        last, text_digest = self._last()
        for _, text, old, saved, _ in self._before:
            if digest_of_text(text) != text_digest:
                last, text_digest = self._insert(last + 1, text, old, saved, "")
        if not plan or digest_of_text(plan) != text_digest:
            last, _ = self._insert(last + 1, plan, digest, at, author)
        if last > VERSIONS_MAX:
            self._sql.send(_FORGET, {"name": self._name, "until": last - VERSIONS_MAX})

    def _last(self) -> tuple[int, str]:
        found = self._sql.rows(_FIND_LAST, {"name": self._name})
        return found[0] if found else (0, "")

    def _insert(self, version: int, plan: str, digest: str, saved: float, author: str) -> tuple[int, str]:
        text_digest = digest_of_text(plan) if plan else ""
        row = {"name": self._name, "version": version, "plan": plan, "digest": digest, "saved": float(saved)}
        sealed = digest_of_plan(self._name, plan, digest, saved, author)
        self._sql.send(_ADD, {**row, "text_digest": text_digest, "author": author, "row_digest": sealed})
        return version, text_digest


def list_versions(sql: Sql, name: str) -> list[PlanVersion]:
    """Return the versions of a name, newest first."""
    found = [PlanVersion(name, *row) for row in sql.rows(_LIST, {"name": name})]
    for _, text, digest, saved, _ in sql.rows(_FIND_NOW, {"name": name}):
        text_digest = digest_of_text(text)
        if not found or found[0].text_digest != text_digest:
            number = found[0].version + 1 if found else 1
            found.insert(0, PlanVersion(name, number, digest, text_digest, saved, ""))
    return found


def read_version(sql: Sql, version: PlanVersion) -> tuple[str, bool] | None:
    """Return the text of a version, and whether its row was altered; `None`: it is gone."""
    for text, row_digest in sql.rows(_READ, {"name": version.name, "version": version.version}):
        sealed = digest_of_plan(version.name, text, version.digest, version.saved, version.by)
        return text, sealed != row_digest
    # It was saved before the store had histories, and still stands under its name.
    for _, text, *_ in sql.rows(_FIND_NOW, {"name": version.name}):
        if digest_of_text(text) == version.text_digest:
            return text, False
    return None
