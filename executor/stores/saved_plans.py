"""Saved plans, and the versions that the name of each one had: each text that was saved under it, when, and by whom.

Every function works inside a transaction or a query of its caller, and knows the tables `plans` and `plan_versions`.

A version is written in the transaction that saves or deletes the plan, so that the history never differs from what happened. A store may have
plans that were saved before it had histories, or by an older firmplan beside this one: such a plan gets its version, without an author, as
soon as the next one is saved, and is shown as the last version until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...plans.values import digest_of_text
from .store import PLAN_COLUMNS, PlanVersion, StoredPlan, digest_of_plan

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

_FIND_PLAN: Final = f"""
    SELECT {PLAN_COLUMNS} FROM @plans WHERE name=:wanted OR digest=:wanted ORDER BY name=:wanted DESC, name LIMIT 1
"""
# The names of a tenant's plans begin with the tenant and a colon, after which comes a semicolon: a range of the index.
_OF_TENANT: Final = "name > :first AND name < :last"
_OF_NO_TENANT: Final = "(name NOT LIKE :qualified OR name LIKE :hidden)"
_UNQUALIFIED: Final = {"qualified": "%:%", "hidden": "~%"}
_FIND_PLAN_OF_TENANT: Final = f"""
    SELECT {PLAN_COLUMNS} FROM @plans WHERE (name=:name OR digest=:wanted) AND {_OF_TENANT} ORDER BY name=:name DESC, name LIMIT 1
"""
_SAVE_PLAN: Final = f"""
    INSERT INTO @plans ({PLAN_COLUMNS}) VALUES (:name, :plan, :digest, :at, :row_digest) ON CONFLICT (name) DO UPDATE
    SET plan=excluded.plan, digest=excluded.digest, saved=excluded.saved, row_digest=excluded.row_digest
"""
_ADD_PLAN: Final = f"INSERT INTO @plans ({PLAN_COLUMNS}) VALUES (:name, :plan, :digest, :at, :row_digest) ON CONFLICT (name) DO NOTHING"
_REPLACE_PLAN: Final = """
    UPDATE @plans SET plan=:plan, digest=:digest, saved=:at, row_digest=:row_digest WHERE name=:name AND digest=:replaces
    AND :of_text IN ('', plan)
"""
_DELETE_PLAN: Final = (
    "DELETE FROM @plans WHERE name=:name AND :digest IN ('', digest) AND :of_text IN ('', plan)"
)


def save(  # noqa: PLR0913  # the columns and two conditions
    sql: Sql,
    name: str,
    plan: str,
    digest: str,
    at: float,
    *,
    replaces: str | None,
    of_text: str,
    author: str | None,
) -> bool:
    """Save a plan as `Store.save_plan` says, in a transaction; return whether it was saved."""
    row_digest = digest_of_plan(name, plan, digest, at)
    values = {"name": name, "plan": plan, "digest": digest, "at": float(at), "row_digest": row_digest}
    # One statement decides and saves: of two savers who replace the same plan, one changes a row.
    statement = _SAVE_PLAN if replaces is None else _REPLACE_PLAN if replaces else _ADD_PLAN
    if replaces:
        values |= {"replaces": replaces, "of_text": of_text}
    history = PlanHistory(sql, name) if author is not None else None
    is_saved = sql.change(statement, values) == 1
    if is_saved and history is not None:
        history.add(plan, digest, at, author or "")
    return is_saved


def delete(sql: Sql, name: str, at: float, *, author: str, digest: str | None, of_text: str) -> bool:
    """Delete a plan as `Store.delete_plan` says, in a transaction; return whether it was deleted."""
    history = PlanHistory(sql, name)
    is_deleted = sql.change(_DELETE_PLAN, {"name": name, "digest": digest or "", "of_text": of_text}) == 1
    if is_deleted:
        history.add("", "", at, author)
    return is_deleted


def list_plans(sql: Sql, tenant: str | None) -> list[StoredPlan]:
    """Return the saved plans of a tenant, by name; empty: of no tenant, `None`: all."""
    which, values = "1=1", dict[str, str]()
    if tenant is not None:
        which, values = (_OF_TENANT, _bounds_of(tenant)) if tenant else (_OF_NO_TENANT, _UNQUALIFIED)
    found = sql.rows(f"SELECT {PLAN_COLUMNS} FROM @plans WHERE {which} ORDER BY name", values)
    return [StoredPlan.from_row(row) for row in found]


def list_marks(sql: Sql, before: str) -> list[tuple[str, float, str]]:
    """Return name, time and digest of the plans of no tenant whose names sort before a text, by name."""
    found = sql.rows(
        f"SELECT name, saved, digest FROM @plans WHERE name < :before AND {_OF_NO_TENANT} ORDER BY name",
        {"before": before, **_UNQUALIFIED},
    )
    return [(name, float(saved), digest) for name, saved, digest in found]


def find_plan(sql: Sql, name_or_digest: str, tenant: str) -> StoredPlan | None:
    """Return a saved plan, or `None`, as `Store.find_plan` does."""
    if tenant:
        values = {"wanted": name_or_digest, "name": f"{tenant}:{name_or_digest}", **_bounds_of(tenant)}
        found = sql.rows(_FIND_PLAN_OF_TENANT, values)
    else:
        found = sql.rows(_FIND_PLAN, {"wanted": name_or_digest})
    return StoredPlan.from_row(found[0]) if found else None


def _bounds_of(tenant: str) -> dict[str, str]:
    """Return the texts between which the names of a tenant's plans are."""
    return {"first": f"{tenant}:", "last": f"{tenant};"}


# --- the history of a name


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


def read_version(sql: Sql, version: PlanVersion) -> StoredPlan | None:
    """Return the plan of a version; `None`: it is gone."""
    for text, row_digest in sql.rows(_READ, {"name": version.name, "version": version.version}):
        sealed = digest_of_plan(version.name, text, version.digest, version.saved, version.by)
        return StoredPlan(version.name, text, version.digest, is_altered=sealed != row_digest)
    # It was saved before the store had histories, and still stands under its name.
    for _, text, *_ in sql.rows(_FIND_NOW, {"name": version.name}):
        if digest_of_text(text) == version.text_digest:
            return StoredPlan(version.name, text, version.digest)
    return None
