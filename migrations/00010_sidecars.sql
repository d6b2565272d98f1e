-- What sidecars last said of themselves: who is there, and which revision it has
-- applied. They say it again every few seconds, so that nothing of it needs to outlive a
-- crash: the table is not logged.

-- +goose Up

create unlogged table sidecars (
    id                text             not null collate "C", -- of the process
    sequence          bigint           not null, -- of its reports: a late one does not replace a newer one
    name              text             not null collate "C",
    version           text             not null,
    mode              text             not null,
    address           text             not null,
    revision          bigint           not null,
    fresh_at          timestamptz, -- when its data was last known to be the platform's; null: never
    checks_per_second double precision not null,
    leaving           boolean          not null,
    reported_at       timestamptz      not null,
    constraint sidecars_pkey primary key (id)
);

update usher_schema set version = 10;
