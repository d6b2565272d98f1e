-- The changes of which members were not told yet: what is shared, and by which roles.
-- They are gathered for a short while, so that a bundle of edits makes one mail. No
-- part of the platform's state.

-- +goose Up

create table untold_changes (
    owner    text        not null collate "C",
    revision bigint      not null,
    at       timestamptz not null,
    constraint untold_changes_pkey primary key (owner, revision)
);

update usher_schema set version = 9;
