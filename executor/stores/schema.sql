-- The store's tables, format 2 (PRAGMA user_version). docs/JOURNAL_FORMAT.md says what each column means.
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    task TEXT,
    plan_digest TEXT,
    parent TEXT,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    digest TEXT NOT NULL DEFAULT '',
    epoch INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    head BLOB NOT NULL,
    last_seq INTEGER NOT NULL DEFAULT 0,
    tenant TEXT NOT NULL DEFAULT '',
    usd REAL NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX runs_by_age ON runs (created DESC, id DESC);
CREATE INDEX runs_by_status ON runs (status, created DESC, id DESC);
CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL;
CREATE INDEX runs_driven ON runs (owner) WHERE owner IS NOT NULL;
CREATE INDEX runs_of_tenant ON runs (tenant, created DESC, id DESC) WHERE tenant <> '';
CREATE INDEX runs_of_tenant_by_status ON runs (tenant, status, created DESC, id DESC) WHERE tenant <> '';

-- Runs that go on by themselves at some time, with or without an owner: a wait ends, a question or an approval expires, a deadline passes.
CREATE TABLE due_runs (run_id TEXT PRIMARY KEY, due REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX due_runs_by_time ON due_runs (due);

-- Why the last worker that tried a run could not go on with it: as long as the run has the epoch that this attempt had.
CREATE TABLE unfit_attempts (run_id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, noted REAL NOT NULL, why TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- How often each owner of a run has said that it lives: other machines watch it.
CREATE TABLE owners (name TEXT PRIMARY KEY, beat INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Apart from the rows, which every flush changes: a row that held a plan of thousands of steps would be written anew each time.
-- It has row numbers, by which a large header is written and read in portions, as other tables have whose values may be large.
CREATE TABLE headers (run_id TEXT PRIMARY KEY, header BLOB NOT NULL) STRICT;
-- The texts of large plans, by the digest of their bytes, and the runs that have each: a header refers to the text.
CREATE TABLE plan_texts (digest TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE run_plans (run_id TEXT PRIMARY KEY, digest TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX run_plans_by_digest ON run_plans (digest);

-- One row a flush: the lines of its records, joined by line feeds.
CREATE TABLE journal (
    run_id TEXT NOT NULL,
    first_seq INTEGER NOT NULL,
    lines BLOB NOT NULL,
    head BLOB NOT NULL,
    PRIMARY KEY (run_id, first_seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE stored_values (digest TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT;
-- What callers have saved as inputs, and when: nothing may refer to it yet.
CREATE TABLE saved_values (digest TEXT PRIMARY KEY, saved REAL NOT NULL) STRICT, WITHOUT ROWID;

-- Values that are larger than memory should hold: the digests of their parts, in order, which are stored values.
CREATE TABLE value_parts (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, parts BLOB NOT NULL) STRICT, WITHOUT ROWID;

-- Values outside the file, in a bucket or a folder: where each is, and the digests that it names. Each place has a folder of this store.
CREATE TABLE stored_objects (
    digest TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    place TEXT NOT NULL,
    object TEXT NOT NULL,
    named BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE object_folders (place TEXT PRIMARY KEY, folder TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- What is known of the store itself: its `identity`, which tells it from other stores, whatever address it has.
CREATE TABLE store_facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- Until when the starts of calls at a rate are leased. Only engines on a server use it.
CREATE TABLE rate_limits (name TEXT PRIMARY KEY, next REAL NOT NULL) STRICT, WITHOUT ROWID;

-- Results that later runs may reuse (`reuse_log.py`): some dozens a row, and where the newest of each key is.
CREATE TABLE reuse_log (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    oldest REAL NOT NULL,
    newest REAL NOT NULL,
    size INTEGER NOT NULL,
    results BLOB NOT NULL
) STRICT;
CREATE TABLE reuse_keys (prefix INTEGER PRIMARY KEY, number INTEGER NOT NULL) STRICT;
-- The same, as older versions have left them: nothing is added any more.
CREATE TABLE reusable (
    key TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    step TEXT NOT NULL,
    created REAL NOT NULL,
    epochs BLOB NOT NULL,
    env BLOB NOT NULL,
    row_digest BLOB NOT NULL DEFAULT x'',
    output BLOB NOT NULL
) STRICT;

-- What calls were made from, so that a later one can say which part differs: `code` names the parts of the tool's fingerprint.
CREATE TABLE calls (
    run_id TEXT NOT NULL,
    step TEXT NOT NULL,
    subject TEXT NOT NULL,
    started REAL NOT NULL,
    key TEXT NOT NULL,
    parts BLOB NOT NULL,
    code TEXT NOT NULL,
    lost TEXT NOT NULL,
    PRIMARY KEY (run_id, step)
) STRICT, WITHOUT ROWID;
-- The same, as runs leave them: one row for the calls of a quarter of a second, until someone asks for one and they are sorted.
CREATE TABLE unsorted_calls (number INTEGER PRIMARY KEY, calls BLOB NOT NULL) STRICT;
CREATE INDEX calls_by_step ON calls (subject, step, started);
CREATE INDEX calls_by_age ON calls (subject, started);
CREATE TABLE codes (digest TEXT PRIMARY KEY, parts BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE resources (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE open_writes (
    run_id TEXT NOT NULL,
    step TEXT NOT NULL,
    resource TEXT NOT NULL,
    PRIMARY KEY (run_id, step)
) STRICT, WITHOUT ROWID;

-- What people decided, until the run's journal holds it: the one who decides need not be the one who drives.
CREATE TABLE decisions (number INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, record BLOB NOT NULL) STRICT;
-- The decision that stands about an attempt of a call: nobody's other one is taken, neither before nor after a journal holds it.
CREATE TABLE decided_attempts (
    run_id TEXT NOT NULL,
    step TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    about TEXT NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (run_id, step, attempt, about)
) STRICT, WITHOUT ROWID;

CREATE TABLE plans (
    name TEXT PRIMARY KEY,
    plan TEXT NOT NULL,
    digest TEXT NOT NULL,
    saved REAL NOT NULL,
    row_digest BLOB NOT NULL DEFAULT x''
) STRICT, WITHOUT ROWID;
CREATE INDEX plans_by_digest ON plans (digest);

-- Each version that the name of a saved plan had, as it was saved. An empty plan says that the name was deleted.
CREATE TABLE plan_versions (
    tenant TEXT NOT NULL DEFAULT '',
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    plan TEXT NOT NULL,
    digest TEXT NOT NULL,
    text_digest TEXT NOT NULL,
    saved REAL NOT NULL,
    author TEXT NOT NULL,
    row_digest BLOB NOT NULL,
    PRIMARY KEY (tenant, name, version)
) STRICT, WITHOUT ROWID;

-- What is known of large plans from before: that they passed a check, and the facts of their programs, by a digest over all that decides it.
CREATE TABLE known_plans (key TEXT PRIMARY KEY, kept REAL NOT NULL, row_digest BLOB NOT NULL, data BLOB NOT NULL) STRICT;

-- Saved plans that run at certain times, and each of these times with what became of it.
CREATE TABLE schedules (
    tenant TEXT NOT NULL DEFAULT '',
    name TEXT NOT NULL,
    schedule TEXT NOT NULL,
    created REAL NOT NULL,
    author TEXT NOT NULL,
    revision INTEGER NOT NULL,
    paused INTEGER NOT NULL,
    next_at REAL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE schedule_fires (
    tenant TEXT NOT NULL DEFAULT '',
    schedule TEXT NOT NULL,
    fires_at REAL NOT NULL,
    state TEXT NOT NULL,
    run_id TEXT,
    noted REAL NOT NULL,
    detail TEXT NOT NULL,
    missed INTEGER NOT NULL,
    leased REAL NOT NULL,
    PRIMARY KEY (tenant, schedule, fires_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX schedule_fires_due ON schedule_fires (fires_at) WHERE state = 'due';

-- What happened to runs and schedules, and is to be told to webhooks, and the messages that were made of it.
CREATE TABLE webhook_notices (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL DEFAULT '',
    event TEXT NOT NULL,
    run_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    noted REAL NOT NULL,
    data TEXT NOT NULL
) STRICT;
CREATE TABLE webhook_deliveries (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL DEFAULT '',
    endpoint TEXT NOT NULL,
    event TEXT NOT NULL,
    run_id TEXT,
    created REAL NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_at REAL NOT NULL,
    leased REAL NOT NULL,
    answered INTEGER,
    detail TEXT NOT NULL,
    updated REAL NOT NULL,
    payload TEXT NOT NULL
) STRICT;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint, next_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_by_age ON webhook_deliveries (created DESC, id DESC);

-- What providers of tools said of each tool when it was first used, or last accepted.
CREATE TABLE pinned_tools (
    provider TEXT NOT NULL,
    tool TEXT NOT NULL,
    said BLOB NOT NULL,
    pinned REAL NOT NULL,
    PRIMARY KEY (provider, tool)
) STRICT, WITHOUT ROWID;

-- What results of each tool looked like, by the fingerprint that the tool had.
CREATE TABLE learnt_types (
    tool TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    learnt BLOB NOT NULL,
    updated REAL NOT NULL,
    PRIMARY KEY (tool, fingerprint)
) STRICT, WITHOUT ROWID;

-- Each time that a saved plan was thought to answer a task, and what became of it, with the run that it was for, if there was one.
CREATE TABLE plan_uses (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    outcome TEXT NOT NULL,
    run_id TEXT,
    noted REAL NOT NULL
) STRICT;

-- Who may ask a server for what. `digest` is the SHA-256 of the whole key, whose secret has 256 random bits.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    tenant TEXT NOT NULL,
    scopes TEXT NOT NULL,
    may_approve_own INTEGER NOT NULL,
    created REAL NOT NULL,
    expires REAL,
    used REAL,
    revoked REAL,
    digest BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What servers with a budget have spent on models, by day (UTC).
CREATE TABLE spending (day TEXT PRIMARY KEY, usd REAL NOT NULL, tokens INTEGER NOT NULL) STRICT, WITHOUT ROWID;
