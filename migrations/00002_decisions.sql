-- The decisions that checks were answered with, as sidecars and stock OPAs upload
-- them, and how each OPA stands. They are no part of the platform's state: they have
-- no revision and no place in the change log, and go after their retention.

-- +goose Up

-- One partition a day (UTC): a day is dropped whole. An event is filed under the time
-- that it names.
create table decisions (
    at            timestamptz not null,
    id            text        not null collate "C",
    received_at   timestamptz not null,
    instance      text        not null collate "C", -- labels.id of whoever decided
    path          text        not null collate "C",
    subject       text        not null collate "C", -- "" where the event has none: it may be masked
    action        text        not null collate "C",
    resource_type text        not null collate "C",
    resource_id   text        not null collate "C",
    outcome       text        not null collate "C",
    reason        text        not null collate "C",
    revision      bigint,
    event         text        not null, -- JSON, as it was sent
    constraint decisions_pkey primary key (at, id),
    constraint decisions_outcome_check check (outcome in ('allow', 'deny', 'none'))
) partition by range (at);

create index decisions_id_idx on decisions (id);
create index decisions_subject_idx on decisions (subject, at, id);
create index decisions_resource_idx on decisions (resource_type, resource_id, at, id);
create index decisions_action_idx on decisions (action, at, id);
create index decisions_denied_idx on decisions (at, id) where outcome = 'deny';

-- The last status of each OPA, by the id among its labels.
create table opa_statuses (
    instance    text        not null collate "C",
    received_at timestamptz not null,
    revision    text        not null, -- of usher's bundle, as the OPA has activated it
    errors      int         not null, -- bundles that it could not load
    body        text        not null, -- JSON, as it was sent
    constraint opa_statuses_pkey primary key (instance)
);

create index opa_statuses_received_idx on opa_statuses (received_at);

-- Makes the partitions of the days from first to last, and drops those of earlier
-- ones. It runs with the rights of the tables' owner: the role of `usher admin` may
-- not change the schema. One caller does the work; for others at the same time there
-- is nothing to do. It gives up on a lock that it does not get soon: the next call
-- tries again.
-- +goose StatementBegin
create function keep_decisions(first date, last date) returns void
    language plpgsql security definer set search_path from current set lock_timeout = '5s' as
$$
declare
    day  date;
    part text;
begin
    if last - first > 4000 or not pg_try_advisory_xact_lock(hashtext('usher decisions')) then
        return;
    end if;
    for day in select generate_series(first, last, interval '1 day')::date loop
        part := 'decisions_' || to_char(day, 'YYYYMMDD');
        if to_regclass(part) is null then
            execute format('create table %I partition of decisions for values from (%L) to (%L)',
                part, day::text || 'T00:00:00Z', (day + 1)::text || 'T00:00:00Z');
        end if;
    end loop;
    for part in select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'decisions'::regclass and c.relname < 'decisions_' || to_char(first, 'YYYYMMDD') loop
        execute format('drop table %I', part);
    end loop;
end
$$;
-- +goose StatementEnd

revoke execute on function keep_decisions(date, date) from public;

update usher_schema set version = 2;
