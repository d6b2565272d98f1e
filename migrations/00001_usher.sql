-- The platform in one schema: who shares what with whom, and the log of every change.
--
-- Keys begin with the owner's account id wherever a row belongs to an owner, so
-- that the tables can be distributed by it. Ids are compared byte by byte
-- (collate "C"); their form is checked by three cheap conditions, not by one regular
-- expression with a count, which costs twenty times as much. Foreign keys never cascade: the writer names each row that goes, or
-- the change log would not have it. Constraints are deferrable where one statement
-- of an import may pass through a state that is not final.

-- +goose Up

-- The head of the chain of revisions: the one row that every write changes.
create table platform (
    singleton         boolean     not null default true,
    platform          text        not null collate "C",
    revision          bigint      not null,
    epoch             bigint      not null generated always as (revision >> 40) stored,
    count             bigint      not null generated always as (revision & ((1::bigint << 40) - 1)) stored,
    hash              bytea       not null,
    changed_at        timestamptz not null,
    system_identifier text        not null,
    timeline          bigint      not null,
    policy_digest     bytea,
    constraint platform_pkey primary key (singleton),
    constraint platform_singleton_check check (singleton),
    constraint platform_revision_check check (revision between 0 and (1::bigint << 53) - 1),
    constraint platform_hash_check check (octet_length(hash) = 32)
) with (fillfactor = 10);

create table policies_in_force (
    digest   bytea  not null,
    body     text   not null, -- canonical JSON
    revision bigint not null, -- at which it came in force
    constraint policies_in_force_pkey primary key (digest),
    constraint policies_in_force_digest_check check (octet_length(digest) = 32)
);

alter table platform
    add constraint platform_policy_fkey foreign key (policy_digest) references policies_in_force (digest);

-- The ids of the system policies in force, for roles to refer to.
create table system_policies (
    id text not null collate "C",
    constraint system_policies_pkey primary key (id)
);

create table accounts (
    id           text        not null collate "C",
    email        text        not null,
    email_key    text        not null collate "C", -- what addresses are compared by
    display_name text        not null,
    created_at   timestamptz not null,
    revision     bigint      not null,
    constraint accounts_pkey primary key (id),
    constraint accounts_id_check check (id ~ '^[A-Za-z0-9]' and id !~ '[^A-Za-z0-9._:@-]' and octet_length(id) <= 128),
    constraint accounts_email_check check (email_key <> ''),
    constraint accounts_email_key unique (email_key) deferrable
);

create table groups (
    owner    text   not null collate "C",
    id       text   not null collate "C",
    name     text   not null,
    name_key text   not null collate "C",
    parent   text   collate "C",
    color    text   not null,
    revision bigint not null,
    constraint groups_pkey primary key (owner, id),
    constraint groups_id_key unique (id),
    constraint groups_id_check check (id ~ '^[A-Za-z0-9]' and id !~ '[^A-Za-z0-9._:@-]' and octet_length(id) <= 128),
    constraint groups_color_check check (color ~ '^#[0-9A-Fa-f]{6}$'),
    constraint groups_parent_check check (parent <> id),
    constraint groups_name_key unique nulls not distinct (owner, parent, name_key) deferrable,
    constraint groups_owner_fkey foreign key (owner) references accounts (id),
    constraint groups_parent_fkey foreign key (owner, parent) references groups (owner, id)
);

create table environments (
    owner    text   not null collate "C",
    id       text   not null collate "C",
    name     text   not null,
    revision bigint not null,
    constraint environments_pkey primary key (owner, id),
    constraint environments_id_key unique (id),
    constraint environments_id_check check (id ~ '^[A-Za-z0-9]' and id !~ '[^A-Za-z0-9._:@-]' and octet_length(id) <= 128),
    constraint environments_owner_fkey foreign key (owner) references accounts (id)
);

create table environment_groups (
    owner          text not null collate "C",
    environment_id text not null collate "C",
    group_id       text not null collate "C",
    constraint environment_groups_pkey primary key (owner, environment_id, group_id),
    constraint environment_groups_environment_fkey foreign key (owner, environment_id) references environments (owner, id),
    constraint environment_groups_group_fkey foreign key (owner, group_id) references groups (owner, id)
);

create index environment_groups_group_idx on environment_groups (owner, group_id);

create table policies (
    owner       text   not null collate "C",
    id          text   not null collate "C",
    name        text   not null,
    description text   not null,
    resources   text[] not null,
    actions     text[] not null,
    revision    bigint not null,
    constraint policies_pkey primary key (owner, id),
    constraint policies_id_check check (id ~ '^[A-Za-z0-9]' and id !~ '[^A-Za-z0-9._:@-]' and octet_length(id) <= 128),
    constraint policies_resources_check check (resources <@ array ['environment', 'group', 'environments', 'groups', 'account']),
    constraint policies_owner_fkey foreign key (owner) references accounts (id)
);

-- Whether a new catalogue takes a custom policy's id.
create index policies_id_idx on policies (id);
-- Whether a new catalogue drops an action that a custom policy names.
create index policies_actions_idx on policies using gin (actions);

create table roles (
    owner               text    not null collate "C",
    id                  text    not null collate "C",
    name                text    not null,
    name_key            text    not null collate "C",
    description         text    not null,
    receive_load_alerts boolean not null,
    revision            bigint  not null,
    constraint roles_pkey primary key (owner, id),
    constraint roles_id_check check (id ~ '^[A-Za-z0-9]' and id !~ '[^A-Za-z0-9._:@-]' and octet_length(id) <= 128),
    constraint roles_name_key unique (owner, name_key) deferrable,
    constraint roles_owner_fkey foreign key (owner) references accounts (id)
);

-- A role's policies: each is the system's or one of the owner's own.
create table role_policies (
    owner         text    not null collate "C",
    role_id       text    not null collate "C",
    policy_id     text    not null collate "C",
    custom        boolean not null,
    custom_policy text    collate "C" generated always as (case when custom then policy_id end) stored,
    system_policy text    collate "C" generated always as (case when not custom then policy_id end) stored,
    constraint role_policies_pkey primary key (owner, role_id, policy_id),
    constraint role_policies_role_fkey foreign key (owner, role_id) references roles (owner, id),
    constraint role_policies_custom_fkey foreign key (owner, custom_policy) references policies (owner, id),
    constraint role_policies_system_fkey foreign key (system_policy) references system_policies (id)
);

create index role_policies_custom_idx on role_policies (owner, custom_policy) where custom_policy is not null;
create index role_policies_system_idx on role_policies (system_policy) where system_policy is not null;

-- A record that is not bound follows its address: account is whoever has it now.
-- One that is bound (accepted once) follows its account: email is what that has now.
create table collaborations (
    owner                 text        not null collate "C",
    id                    text        not null collate "C",
    email                 text        not null,
    email_key             text        not null collate "C",
    account               text        collate "C",
    bound                 boolean     not null,
    invited_name          text        not null, -- of an account that is not known, as a document gave it
    display_name          text        not null, -- the owner's for the member
    name_key              text        not null collate "C", -- of display_name, to sort and search by
    member_display_name   text        not null, -- the member's for the owner
    status                text        not null,
    invitation_expires_at timestamptz,
    created_at            timestamptz not null,
    last_changed          timestamptz not null,
    revision              bigint      not null,
    constraint collaborations_pkey primary key (owner, id),
    constraint collaborations_id_key unique (id),
    constraint collaborations_id_check check (id ~ '^[A-Za-z0-9]' and id !~ '[^A-Za-z0-9._:@-]' and octet_length(id) <= 128),
    constraint collaborations_email_check check (email_key <> ''),
    constraint collaborations_status_check check (status in ('pending', 'active', 'suspended', 'left', 'rejected', 'expired', 'removed')),
    constraint collaborations_self_check check (account <> owner),
    constraint collaborations_bound_check check (not bound or account is not null),
    constraint collaborations_invitation_check check ((status = 'pending') = (invitation_expires_at is not null)),
    constraint collaborations_owner_fkey foreign key (owner) references accounts (id),
    constraint collaborations_account_fkey foreign key (account) references accounts (id)
) with (fillfactor = 80);

-- One record of an owner for an account (a removed one gives way to a live one: it
-- loses its account), and one live one for an address that nobody is bound to.
create unique index collaborations_account_key on collaborations (owner, account) where account is not null;
create unique index collaborations_email_key on collaborations (owner, email_key) where not bound and status <> 'removed';
-- "Shared with me"; the key of the account's foreign key.
create index collaborations_account_idx on collaborations (account, id) where account is not null;
-- The records that follow an address.
create index collaborations_email_idx on collaborations (email_key) where not bound;
-- The orders of the list of members. By status and last change it is sorted: these
-- change with every write, and an index on them would make each dearer.
create index collaborations_name_idx on collaborations (owner, name_key, id);
create index collaborations_address_idx on collaborations (owner, email_key, id);

-- A grant is its rows, one for each role: so it never lacks roles, and there are
-- never two on one resource. All rows of a grant have the same end.
create table grants (
    owner            text   not null collate "C",
    collaboration_id text   not null collate "C",
    resource_type    text   not null collate "C",
    resource_id      text   not null collate "C",
    role_id          text   not null collate "C",
    expires_at       timestamptz,
    environment_id   text   collate "C" generated always as (case when resource_type = 'environment' then resource_id end) stored,
    group_id         text   collate "C" generated always as (case when resource_type = 'group' then resource_id end) stored,
    constraint grants_pkey primary key (owner, collaboration_id, resource_type, resource_id, role_id),
    constraint grants_resource_type_check check (resource_type in ('environment', 'group', 'environments', 'groups', 'account')),
    constraint grants_category_check check (resource_type in ('environment', 'group') or resource_id = owner),
    constraint grants_collaboration_fkey foreign key (owner, collaboration_id) references collaborations (owner, id),
    constraint grants_role_fkey foreign key (owner, role_id) references roles (owner, id),
    constraint grants_environment_fkey foreign key (owner, environment_id) references environments (owner, id),
    constraint grants_group_fkey foreign key (owner, group_id) references groups (owner, id)
);

create index grants_role_idx on grants (owner, role_id);
create index grants_environment_idx on grants (owner, environment_id) where environment_id is not null;
create index grants_group_idx on grants (owner, group_id) where group_id is not null;

create table tokens (
    id         text        not null collate "C",
    name       text        not null,
    hash       text        not null collate "C", -- hex SHA-256 of the secret
    scopes     text[]      not null,
    expires_at timestamptz,
    created_at timestamptz not null,
    revision   bigint      not null,
    constraint tokens_pkey primary key (id),
    constraint tokens_id_check check (id ~ '^[A-Za-z0-9]' and id !~ '[^A-Za-z0-9._:@-]' and octet_length(id) <= 128),
    constraint tokens_hash_key unique (hash),
    constraint tokens_hash_check check (hash ~ '^[0-9a-f]{64}$'),
    constraint tokens_scopes_check check (scopes <@ array ['resources', 'collaboration', 'checks', 'bundles', 'decisions', 'audit', 'act-as'])
);

-- What each revision did to what decisions rest on (objects: the bytes that were
-- hashed), and who did it. hash chains it to the one before.
create table revisions (
    revision      bigint      not null,
    at            timestamptz not null,
    objects       text        not null,
    audit_hash    bytea       not null,
    hash          bytea       not null,
    action        text        not null,
    token         text        not null collate "C",
    token_name    text        not null,
    account       text        not null collate "C",
    local         boolean     not null,
    request_id    text        not null,
    owners        text[]      not null, -- of its changes, to find these by their key
    address       text, -- data of a person: null once erased
    address_salt  bytea,
    transaction   uuid        not null, -- by which a commit of unknown outcome is looked up
    constraint revisions_pkey primary key (revision),
    constraint revisions_transaction_key unique (transaction, revision),
    constraint revisions_revision_check check (revision between 0 and (1::bigint << 53) - 1),
    constraint revisions_hash_check check (octet_length(hash) = 32 and octet_length(audit_hash) = 32)
);

-- Each object that a revision touched, as it was and as it is; the data of persons
-- apart, of which the chain has only a salted hash, so that it can be erased. Most
-- rows of an import are here: so the table has one index, and no foreign key (nothing
-- but the writer of revisions writes to it); the platform's log goes by revisions.owners.
create table changes (
    owner         text   not null collate "C", -- "" for what belongs to the platform
    revision      bigint not null,
    ordinal       int    not null,
    kind          text   not null collate "C",
    id            text   not null collate "C",
    before        text,
    after         text,
    personal      text,
    personal_salt bytea,
    personal_hash bytea,
    constraint changes_pkey primary key (owner, revision, ordinal),
    constraint changes_personal_check check ((personal_salt is null) = (personal is null))
);

-- +goose StatementBegin
create function forbid_change_of_log() returns trigger language plpgsql as
$$
begin
    raise exception 'the change log is append-only'
        using errcode = 'integrity_constraint_violation', constraint = 'log_append_only', table = tg_table_name;
end
$$;
-- +goose StatementEnd

create trigger revisions_append_only
    before delete or truncate on revisions
    for each statement execute function forbid_change_of_log();
create trigger changes_append_only
    before delete or truncate on changes
    for each statement execute function forbid_change_of_log();
-- The only update there is: erasing the data of persons.
create trigger revisions_append_only_update
    before update on revisions
    for each row
    when (new.address is not null or new.address_salt is not null
        or (new.revision, new.at, new.objects, new.audit_hash, new.hash, new.action, new.token, new.token_name, new.account, new.local,
            new.request_id, new.owners, new.transaction)
           is distinct from
           (old.revision, old.at, old.objects, old.audit_hash, old.hash, old.action, old.token, old.token_name, old.account, old.local,
            old.request_id, old.owners, old.transaction))
execute function forbid_change_of_log();
create trigger changes_append_only_update
    before update on changes
    for each row
    when (new.personal is not null or new.personal_salt is not null
        or (new.owner, new.revision, new.ordinal, new.kind, new.id, new.before, new.after, new.personal_hash)
           is distinct from
           (old.owner, old.revision, old.ordinal, old.kind, old.id, old.before, old.after, old.personal_hash))
execute function forbid_change_of_log();

-- The answers that were given to requests with an Idempotency-Key.
create table idempotency_keys (
    caller       text        not null collate "C",
    key          text        not null collate "C",
    request_hash text        not null,
    answer       text        not null, -- the write's result as JSON
    created_at   timestamptz not null,
    constraint idempotency_keys_pkey primary key (caller, key)
);

create index idempotency_keys_created_idx on idempotency_keys (created_at);

-- Which schema this is, and the oldest that a binary may be built for to serve it.
create table usher_schema (
    singleton boolean not null default true,
    version   bigint  not null,
    needs     bigint  not null,
    constraint usher_schema_pkey primary key (singleton),
    constraint usher_schema_singleton_check check (singleton)
);

insert into usher_schema (version, needs) values (1, 1);
