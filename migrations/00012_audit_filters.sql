-- Filters of the audit find what they want by an index: the log of one account may have
-- hundreds of thousands of entries, and a page of it is asked for at a click.
--
-- Revisions are few beside entries (an import is one, with all its entries): so most is
-- found by the revisions, and changes, which every import writes to, get two indexes.

-- +goose Up

-- The latest time of any revision up to this one: in the order of revisions it never
-- goes back, as the times of a clock may.
alter table revisions add column latest timestamptz;
update revisions r set latest = l.latest
from (select revision, max(at) over (order by revision) as latest from revisions) l
where l.revision = r.revision;
alter table revisions alter column latest set not null;

drop trigger revisions_append_only_update on revisions;
create trigger revisions_append_only_update
    before update on revisions
    for each row
    when (new.address is not null or new.address_salt is not null
        or (new.revision, new.at, new.latest, new.objects, new.audit_hash, new.hash, new.action, new.token, new.token_name, new.account, new.local,
            new.request_id, new.owners, new.transaction)
           is distinct from
           (old.revision, old.at, old.latest, old.objects, old.audit_hash, old.hash, old.action, old.token, old.token_name, old.account, old.local,
            old.request_id, old.owners, old.transaction)
        or (new.address_hash is distinct from old.address_hash
            and not coalesce(old.address_hash is null and new.address_hash = sha256(old.address_salt || convert_to(old.address, 'UTF8')), false)))
execute function forbid_change_of_log();

create index revisions_latest_idx on revisions (latest, revision);
create index revisions_back_idx on revisions (revision) where at < latest;
create index revisions_action_idx on revisions (action, revision);
create index revisions_token_idx on revisions (token, revision) where token <> '';
create index revisions_account_idx on revisions (account, revision) where account <> '';
create index revisions_owner_action_idx on revisions ((owners[1]), action, revision);
create index revisions_owner_token_idx on revisions ((owners[1]), token, revision) where token <> '';
create index revisions_owner_account_idx on revisions ((owners[1]), account, revision) where account <> '';
create index revisions_owners_idx on revisions using gin (owners) where cardinality(owners) > 1;
-- So the planner knows that these are few.
create statistics revisions_owners_statistics on (cardinality(owners)) from revisions;

create index changes_kind_idx on changes (owner, kind, revision, ordinal);
create index changes_id_idx on changes (id, owner, revision, ordinal);

-- A binary of an earlier version writes revisions without their latest.
update usher_schema set version = 12, needs = 12;
