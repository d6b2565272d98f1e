-- The salted hash of a revision's address, kept when the address is erased: without it
-- the audit part of that revision could not be hashed again, and the chain not be
-- verified. Null where the request had no address, and in revisions of older binaries,
-- until the address is erased.

-- +goose Up

alter table revisions add column address_hash bytea;

-- Erasing may write down the hash of what it erases, and nothing else.
drop trigger revisions_append_only_update on revisions;
create trigger revisions_append_only_update
    before update on revisions
    for each row
    when (new.address is not null or new.address_salt is not null
        or (new.revision, new.at, new.objects, new.audit_hash, new.hash, new.action, new.token, new.token_name, new.account, new.local,
            new.request_id, new.owners, new.transaction)
           is distinct from
           (old.revision, old.at, old.objects, old.audit_hash, old.hash, old.action, old.token, old.token_name, old.account, old.local,
            old.request_id, old.owners, old.transaction)
        or (new.address_hash is distinct from old.address_hash
            and not coalesce(old.address_hash is null and new.address_hash = sha256(old.address_salt || convert_to(old.address, 'UTF8')), false)))
execute function forbid_change_of_log();

update usher_schema set version = 3;
