"""Tables of the failure database, as the steps that lead to the present version."""

from __future__ import annotations

APPLICATION_ID = 0x46524D31
"""Kept in the file's header, so that another program's database is never taken for ours."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE cases (
            case_id INTEGER PRIMARY KEY AUTOINCREMENT,
            created_ns INTEGER NOT NULL,
            failure_type INTEGER NOT NULL,
            task TEXT NOT NULL,
            phase TEXT NOT NULL,
            encoder TEXT NOT NULL,
            encoder_revision TEXT NOT NULL,
            embedding BLOB NOT NULL,        -- little-endian float32, as every array
            proprioception BLOB NOT NULL,
            failed_actions BLOB NOT NULL,   -- row-major (horizon x 7)
            correction BLOB,
            correction_source TEXT NOT NULL,
            note TEXT NOT NULL,
            uses INTEGER NOT NULL,
            successes INTEGER NOT NULL,
            retired INTEGER NOT NULL,
            retired_reason TEXT NOT NULL,
            origin TEXT NOT NULL,
            checksum INTEGER NOT NULL       -- CRC-32 of the arrays: a page check does not see a flipped bit in them
        )
        """,
        "CREATE INDEX cases_newest ON cases (created_ns DESC, case_id DESC)",
        """
        CREATE TABLE evidence (
            case_id INTEGER NOT NULL REFERENCES cases (case_id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            name TEXT NOT NULL,
            value REAL NOT NULL,
            threshold REAL NOT NULL,
            unit TEXT NOT NULL,
            PRIMARY KEY (case_id, position)
        ) WITHOUT ROWID
        """,
        "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    ),
    (
        """
        CREATE TABLE situations (           -- in which nothing failed: what no case should match
            situation_id INTEGER PRIMARY KEY AUTOINCREMENT,
            task TEXT NOT NULL,
            phase TEXT NOT NULL,
            embedding BLOB NOT NULL
        )
        """,
    ),
    (
        # What became of which case, in order, whoever wrote it: a kept index catches up from where it was saved. The
        # mark is random, so that a number of this file is never taken for the same number of a copy of it.
        """
        CREATE TABLE changes (
            change_id INTEGER PRIMARY KEY AUTOINCREMENT,
            case_id INTEGER NOT NULL,
            mark TEXT NOT NULL DEFAULT (lower(hex(randomblob(8))))
        )
        """,
        "INSERT INTO changes (case_id) VALUES (0)",
        "CREATE TRIGGER case_added AFTER INSERT ON cases BEGIN INSERT INTO changes (case_id) VALUES (NEW.case_id); END",
        "CREATE TRIGGER case_changed AFTER UPDATE ON cases "
        "BEGIN INSERT INTO changes (case_id) VALUES (NEW.case_id); END",
        "CREATE TRIGGER case_removed AFTER DELETE ON cases "
        "BEGIN INSERT INTO changes (case_id) VALUES (OLD.case_id); END",
    ),
)
"""Statements by version: applying entry n makes version n + 1. Entries are never changed, only added."""
