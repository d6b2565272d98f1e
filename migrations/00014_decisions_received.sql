-- Logged decisions can be followed: in the order in which they came in, since those of
-- a sidecar that was cut off come late, under an earlier time.

-- +goose Up

-- The place of a decision among all that came in; null for those of before this
-- migration. Nothing is rewritten for it.
create sequence decisions_received_seq;
alter table decisions add column place bigint;
alter table decisions alter column place set default nextval('decisions_received_seq');
create index decisions_place_idx on decisions (place);

-- Two that write at once may commit in another order than that of their numbers. Each
-- holds this lock together with all others who write; who takes it alone, for a moment,
-- knows that no number up to the last one is still on its way.
-- +goose StatementBegin
create function place_decisions() returns trigger
    language plpgsql set search_path from current as
$$
begin
    perform pg_advisory_xact_lock_shared(hashtext('usher decisions received'));
    return null;
end
$$;
-- +goose StatementEnd

create trigger decisions_placed
    before insert on decisions
    for each statement
execute function place_decisions();

update usher_schema set version = 14;
