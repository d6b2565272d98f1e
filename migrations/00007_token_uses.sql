-- When each service token was last used, to about a minute: no part of the platform's
-- state, so it has no revision and no place in the change log.

-- +goose Up
create table token_uses (
    token   text        not null collate "C",
    used_at timestamptz not null,
    constraint token_uses_pkey primary key (token),
    constraint token_uses_token_fkey foreign key (token) references tokens (id) on delete cascade
);

update usher_schema set version = 7;
