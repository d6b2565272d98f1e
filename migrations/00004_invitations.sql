-- Links of invitations.
--
-- An invitation has an id of its own: inviting, re-inviting and resending each make a
-- new one, and what a link opens is an invitation. So a link stops working by itself
-- once the invitation was accepted, rejected, replaced or ended, and nobody has to
-- remember to delete it. The secret of a link is made when its mail is sent, and is
-- nowhere but in that mail: here is only its hash. A mail that had to be sent again
-- has a link of its own, so an invitation may have several.

-- +goose Up

-- Null where there is no link: not pending, or pending by an import or before this
-- migration.
alter table collaborations
    add column invitation text collate "C",
    add constraint collaborations_invitation_pending_check check (invitation is null or status = 'pending');

create table invitation_links (
    hash             bytea       not null, -- SHA-256 of the secret
    owner            text        not null collate "C",
    collaboration_id text        not null collate "C",
    invitation       text        not null collate "C",
    created_at       timestamptz not null,
    constraint invitation_links_pkey primary key (hash),
    constraint invitation_links_hash_check check (octet_length(hash) = 32)
);

create index invitation_links_created_idx on invitation_links (created_at);

-- A binary of an earlier version would leave an invitation's id on a record that is not
-- pending any more, and so be refused by the constraint.
update usher_schema set version = 4, needs = 4;
