-- Which service read other people's permissions, and the audit, and when: beside the
-- log of changes, without a revision and without a chain. Rows are only added, and go
-- when they are old.

-- +goose Up

create table reads (
    id         bigint      not null generated always as identity,
    at         timestamptz not null,
    token      text        not null collate "C",
    account    text        not null collate "C", -- that acted; "": the service itself
    address    text        not null,
    request_id text        not null,
    operation  text        not null,
    owner      text        not null collate "C", -- whose; "": the platform's
    path       text        not null,
    constraint reads_pkey primary key (id)
);

create index reads_owner_idx on reads (owner, id);
create index reads_at_idx on reads (at);

-- +goose StatementBegin
create function forbid_change_of_reads() returns trigger language plpgsql as
$$
begin
    raise exception 'the log of reads is append-only'
        using errcode = 'integrity_constraint_violation', constraint = 'reads_append_only', table = tg_table_name;
end
$$;
-- +goose StatementEnd

create trigger reads_append_only
    before update or truncate on reads
    for each statement execute function forbid_change_of_reads();
-- Whatever the retention is: nobody takes away what was just written.
create trigger reads_append_only_delete
    before delete on reads
    for each row when (old.at > now() - interval '7 days')
execute function forbid_change_of_reads();

update usher_schema set version = 5;
