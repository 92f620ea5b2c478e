# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
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
    (
        "ALTER TABLE cases ADD COLUMN calibration_id TEXT NOT NULL DEFAULT ''",
        """
        CREATE TABLE credits (              -- uses and successes by robot; the rest is that of the case's origin
            case_id INTEGER NOT NULL REFERENCES cases (case_id) ON DELETE CASCADE,
            origin TEXT NOT NULL,
            uses INTEGER NOT NULL,
            successes INTEGER NOT NULL,
            PRIMARY KEY (case_id, origin)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE revisions (
            case_id INTEGER NOT NULL REFERENCES cases (case_id) ON DELETE CASCADE,
            revision INTEGER NOT NULL,      -- from 1
            stamp_ns INTEGER NOT NULL,
            change TEXT NOT NULL,
            origin TEXT NOT NULL,
            detail TEXT NOT NULL,
            after_use INTEGER NOT NULL,     -- the last use logged before it: an order that no clock disturbs
            PRIMARY KEY (case_id, revision)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE images (
            case_id INTEGER NOT NULL REFERENCES cases (case_id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            format TEXT NOT NULL,
            data BLOB NOT NULL,
            checksum INTEGER NOT NULL,
            PRIMARY KEY (case_id, name)
        )
        """,
        """
        CREATE TABLE uses (                 -- one row for each case, episode and mode
            use_id INTEGER PRIMARY KEY AUTOINCREMENT,
            case_id INTEGER NOT NULL REFERENCES cases (case_id) ON DELETE CASCADE,
            episode_id INTEGER NOT NULL,
            origin TEXT NOT NULL,
            stamp_ns INTEGER NOT NULL,
            mode INTEGER NOT NULL,          -- CorrectionMode; 0: it came up and was not followed
            strength REAL NOT NULL,
            chunks INTEGER NOT NULL,
            result INTEGER NOT NULL         -- UseResult
        )
        """,
        "CREATE INDEX uses_of_case ON uses (case_id, use_id)",
        """
        CREATE TABLE baselines (            -- episodes that no case shaped; phase '' stands for the whole task
            task TEXT NOT NULL,
            phase TEXT NOT NULL,
            episodes INTEGER NOT NULL,
            successes INTEGER NOT NULL,
            PRIMARY KEY (task, phase)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE successes (            -- a sample of what was done where in episodes that succeeded
            success_id INTEGER PRIMARY KEY AUTOINCREMENT,
            task TEXT NOT NULL,
            phase TEXT NOT NULL,
            encoder TEXT NOT NULL,
            encoder_revision TEXT NOT NULL,
            embedding BLOB NOT NULL,
            actions BLOB NOT NULL,          -- row-major (horizon x 7)
            episode_id INTEGER NOT NULL,
            origin TEXT NOT NULL
        )
        """,
        "CREATE INDEX successes_of_phase ON successes (task, phase)",
        """
        CREATE TABLE reservoirs (           -- how many successes were offered of each kind: makes the sample fair
            task TEXT NOT NULL,
            phase TEXT NOT NULL,
            seen INTEGER NOT NULL,
            PRIMARY KEY (task, phase)
        ) WITHOUT ROWID
        """,
    ),
    (
        # Of the episode's outcome, what is the case's own: many cases share a chunk.
        "ALTER TABLE uses ADD COLUMN share REAL NOT NULL DEFAULT 1.0",
        """
        CREATE TABLE shares (               -- what of shared episodes does not make up a whole one yet
            case_id INTEGER NOT NULL REFERENCES cases (case_id) ON DELETE CASCADE,
            result INTEGER NOT NULL,        -- UseResult
            share REAL NOT NULL,            -- 0 to 1
            PRIMARY KEY (case_id, result)
        ) WITHOUT ROWID
        """,
    ),
    ("ALTER TABLE cases ADD COLUMN misreading BLOB",),
)
"""Statements by version: applying entry n makes version n + 1. Entries are never changed, only added."""
