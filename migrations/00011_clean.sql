-- Grants that have ended are found by their end, to be cleaned away.

-- +goose Up

create index grants_ended_idx on grants (expires_at) where expires_at is not null;

update usher_schema set version = 11;
