-- What an import costs in the log. Nothing of what is there is rewritten, and writes go
-- on: the index is built beside them, some ten seconds for each million entries.

-- +goose NO TRANSACTION

-- +goose Up

-- Of an import's entries those of one kind stand together, and the index of kinds has
-- the first of each run, with how many there are (null: it is not the first). An entry
-- by itself is a run of one, and so is each of before this migration and of an older
-- binary.
alter table changes add column if not exists run int default 1;

drop trigger if exists changes_append_only_update on changes;
create trigger changes_append_only_update
    before update on changes
    for each row
    when (new.personal is not null or new.personal_salt is not null
        or (new.owner, new.revision, new.ordinal, new.kind, new.id, new.before, new.after, new.personal_hash, new.run)
           is distinct from
           (old.owner, old.revision, old.ordinal, old.kind, old.id, old.before, old.after, old.personal_hash, old.run))
execute function forbid_change_of_log();

-- One that was not finished is there, but of no use.
drop index concurrently if exists changes_run_idx;
create index concurrently changes_run_idx on changes (owner, kind, revision, ordinal) where run is not null;
drop index concurrently if exists changes_kind_idx;

-- A document's objects, some kilobytes, are compressed five times as fast where the
-- server was built with lz4, as nearly all are.
-- +goose StatementBegin
do
$$
begin
    alter table revisions alter column objects set compression lz4;
exception
    when feature_not_supported or invalid_parameter_value then null;
end
$$;
-- +goose StatementEnd

update usher_schema set version = 16;
