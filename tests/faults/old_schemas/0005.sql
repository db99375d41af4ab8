CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE jobs (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	priority INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	audio_path VARCHAR NOT NULL, 
	model_size VARCHAR NOT NULL, 
	options JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	started_at DATETIME, 
	completed_at DATETIME, 
	run_after DATETIME, 
	idempotency_key VARCHAR, 
	idempotency_hash VARCHAR, 
	version INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	owner VARCHAR, 
	beat INTEGER NOT NULL, 
	heartbeat_at DATETIME, 
	failures INTEGER NOT NULL, 
	lost INTEGER NOT NULL, 
	cancel_requested_at DATETIME, 
	phase VARCHAR, 
	position FLOAT NOT NULL, 
	duration FLOAT, 
	fingerprint VARCHAR, 
	result_text TEXT, 
	detected_language VARCHAR, 
	outcome JSON, 
	error_code VARCHAR, 
	error_message TEXT, 
	error_hint TEXT, submitter VARCHAR DEFAULT '' NOT NULL, source_url VARCHAR, audio_digest VARCHAR, audio_bytes BIGINT, fetched_bytes BIGINT DEFAULT '0' NOT NULL, no_cache BOOLEAN DEFAULT '0' NOT NULL, cached_from VARCHAR, generation INTEGER DEFAULT '0' NOT NULL, begun INTEGER DEFAULT '0' NOT NULL, losses INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT known_status CHECK (status IN ('queued', 'processing', 'completed', 'error', 'cancelled')), 
	CONSTRAINT owned_while_processing CHECK ((owner IS NULL) = (status <> 'processing')), 
	UNIQUE (id), 
	UNIQUE (idempotency_key)
);
CREATE INDEX jobs_waiting ON jobs (status, priority DESC, seq) WHERE status = 'queued';
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE TABLE job_events (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	job_seq INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	"before" VARCHAR, 
	"after" VARCHAR NOT NULL, 
	attempt INTEGER NOT NULL, 
	owner VARCHAR, 
	reason VARCHAR NOT NULL, 
	FOREIGN KEY(job_seq) REFERENCES jobs (seq) ON DELETE CASCADE
);
CREATE INDEX ix_job_events_job_seq ON job_events (job_seq);
CREATE TABLE job_chunks (
	job_seq INTEGER NOT NULL, 
	start FLOAT NOT NULL, 
	"end" FLOAT NOT NULL, 
	attempt INTEGER NOT NULL, 
	payload JSON NOT NULL, 
	PRIMARY KEY (job_seq, start), 
	FOREIGN KEY(job_seq) REFERENCES jobs (seq) ON DELETE CASCADE
)
 WITHOUT ROWID

;
CREATE TRIGGER legal_moves BEFORE UPDATE OF status ON jobs WHEN OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (VALUES ('queued', 'processing'), ('queued', 'cancelled'), ('processing', 'queued'), ('processing', 'completed'), ('processing', 'error'), ('processing', 'cancelled'), ('error', 'queued'), ('cancelled', 'queued')) BEGIN SELECT RAISE(ABORT, 'a job cannot go from that state to this'); END;
CREATE TRIGGER attempts_only_grow BEFORE UPDATE OF attempt ON jobs WHEN NEW.attempt < OLD.attempt BEGIN SELECT RAISE(ABORT, 'an attempt must not shrink'); END;
CREATE INDEX jobs_by_end ON jobs (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX jobs_by_submitter ON jobs (submitter, seq);
CREATE INDEX jobs_by_audio ON jobs (audio_digest) WHERE audio_digest IS NOT NULL;
CREATE INDEX jobs_by_result ON jobs (fingerprint) WHERE status = 'completed';
CREATE TABLE api_keys (
	id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	scopes JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	revoked_at DATETIME, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
CREATE TABLE removals (
	digest VARCHAR NOT NULL, 
	at DATETIME NOT NULL, 
	PRIMARY KEY (digest)
);
CREATE TABLE queue_blocks (
	priority INTEGER NOT NULL, 
	block INTEGER NOT NULL, 
	model_size VARCHAR NOT NULL, 
	jobs INTEGER NOT NULL, 
	unknown_jobs INTEGER NOT NULL, 
	known_s FLOAT NOT NULL, 
	PRIMARY KEY (priority, block, model_size)
)
 WITHOUT ROWID

;
CREATE TRIGGER queue_block_insert AFTER INSERT ON jobs WHEN NEW.status = 'queued' BEGIN INSERT INTO queue_blocks (priority, block, model_size, jobs, unknown_jobs, known_s)
 SELECT NEW.priority, NEW.seq / 256, NEW.model_size, 1, span_s IS NULL, coalesce(span_s, 0.0) FROM (SELECT (SELECT CASE WHEN "end" IS NULL AND duration IS NULL THEN NULL
 ELSE max(0.0, min(coalesce("end", duration), coalesce(duration, "end")) - max(start, position)) END
 FROM (SELECT json_extract(NEW.options, '$.end') AS "end",
 coalesce(json_extract(NEW.options, '$.start'), 0.0) AS start,
 NEW.duration AS duration, NEW.position AS position)) AS span_s) WHERE true
 ON CONFLICT (priority, block, model_size) DO UPDATE SET
 jobs = jobs + 1, unknown_jobs = unknown_jobs + excluded.unknown_jobs, known_s = known_s + excluded.known_s; END;
CREATE TRIGGER queue_block_delete AFTER DELETE ON jobs WHEN OLD.status = 'queued' BEGIN UPDATE queue_blocks SET jobs = jobs - 1, unknown_jobs = unknown_jobs - ((SELECT CASE WHEN "end" IS NULL AND duration IS NULL THEN NULL
 ELSE max(0.0, min(coalesce("end", duration), coalesce(duration, "end")) - max(start, position)) END
 FROM (SELECT json_extract(OLD.options, '$.end') AS "end",
 coalesce(json_extract(OLD.options, '$.start'), 0.0) AS start,
 OLD.duration AS duration, OLD.position AS position)) IS NULL),
 known_s = known_s - coalesce((SELECT CASE WHEN "end" IS NULL AND duration IS NULL THEN NULL
 ELSE max(0.0, min(coalesce("end", duration), coalesce(duration, "end")) - max(start, position)) END
 FROM (SELECT json_extract(OLD.options, '$.end') AS "end",
 coalesce(json_extract(OLD.options, '$.start'), 0.0) AS start,
 OLD.duration AS duration, OLD.position AS position)), 0.0) WHERE (priority, block, model_size) = (OLD.priority, OLD.seq / 256, OLD.model_size);
 DELETE FROM queue_blocks WHERE (priority, block, model_size) = (OLD.priority, OLD.seq / 256, OLD.model_size) AND jobs <= 0; END;
CREATE TRIGGER queue_block_leave AFTER UPDATE OF status, priority, model_size, options, duration, position ON jobs WHEN OLD.status = 'queued' BEGIN UPDATE queue_blocks SET jobs = jobs - 1, unknown_jobs = unknown_jobs - ((SELECT CASE WHEN "end" IS NULL AND duration IS NULL THEN NULL
 ELSE max(0.0, min(coalesce("end", duration), coalesce(duration, "end")) - max(start, position)) END
 FROM (SELECT json_extract(OLD.options, '$.end') AS "end",
 coalesce(json_extract(OLD.options, '$.start'), 0.0) AS start,
 OLD.duration AS duration, OLD.position AS position)) IS NULL),
 known_s = known_s - coalesce((SELECT CASE WHEN "end" IS NULL AND duration IS NULL THEN NULL
 ELSE max(0.0, min(coalesce("end", duration), coalesce(duration, "end")) - max(start, position)) END
 FROM (SELECT json_extract(OLD.options, '$.end') AS "end",
 coalesce(json_extract(OLD.options, '$.start'), 0.0) AS start,
 OLD.duration AS duration, OLD.position AS position)), 0.0) WHERE (priority, block, model_size) = (OLD.priority, OLD.seq / 256, OLD.model_size);
 DELETE FROM queue_blocks WHERE (priority, block, model_size) = (OLD.priority, OLD.seq / 256, OLD.model_size) AND jobs <= 0; END;
CREATE TRIGGER queue_block_enter AFTER UPDATE OF status, priority, model_size, options, duration, position ON jobs WHEN NEW.status = 'queued' BEGIN INSERT INTO queue_blocks (priority, block, model_size, jobs, unknown_jobs, known_s)
 SELECT NEW.priority, NEW.seq / 256, NEW.model_size, 1, span_s IS NULL, coalesce(span_s, 0.0) FROM (SELECT (SELECT CASE WHEN "end" IS NULL AND duration IS NULL THEN NULL
 ELSE max(0.0, min(coalesce("end", duration), coalesce(duration, "end")) - max(start, position)) END
 FROM (SELECT json_extract(NEW.options, '$.end') AS "end",
 coalesce(json_extract(NEW.options, '$.start'), 0.0) AS start,
 NEW.duration AS duration, NEW.position AS position)) AS span_s) WHERE true
 ON CONFLICT (priority, block, model_size) DO UPDATE SET
 jobs = jobs + 1, unknown_jobs = unknown_jobs + excluded.unknown_jobs, known_s = known_s + excluded.known_s; END;
