-- The job queue, whose tables are River's and are made by it: `usher migrate` does that
-- right before this migration, so that a schema of this version has them. Older
-- binaries do not know them, and queue no mails.

-- +goose Up

update usher_schema set version = 6;
