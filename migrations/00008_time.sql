-- What time ends: invitations whose end was not written down yet are found by it; and
-- who was sent invitations lately, for the limits on that.

-- +goose Up

create index collaborations_expiring_idx on collaborations (invitation_expires_at) where status = 'pending';

create table invitations_sent (
    owner     text        not null collate "C",
    email_key text        not null collate "C",
    at        timestamptz not null
);

create index invitations_sent_owner_idx on invitations_sent (owner, at);
create index invitations_sent_email_idx on invitations_sent (email_key, at);
create index invitations_sent_at_idx on invitations_sent (at);

update usher_schema set version = 8;
