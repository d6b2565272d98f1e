-- What is left of foreign keys between the rows of accounts goes the way of migration 13:
-- whose a row is, a group's parent and a member's account are looked up once a statement,
-- where a foreign key runs a query for each row and locks what it finds. Each thing that
-- rows of one statement refer to is looked up once.
--
-- A collaboration is found by its id alone: of its indexes by owner several end with the
-- id, and a planner without statistics may take one that reads all of an owner's.
--
-- No row is read or written: the time that this takes does not depend on how many there are.

-- +goose Up
alter table groups drop constraint groups_owner_fkey, drop constraint groups_parent_fkey;
alter table environments drop constraint environments_owner_fkey;
alter table policies drop constraint policies_owner_fkey;
alter table roles drop constraint roles_owner_fkey;
alter table collaborations drop constraint collaborations_owner_fkey, drop constraint collaborations_account_fkey;

-- +goose StatementBegin
create or replace function check_grants() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('grants_collaboration_fkey', 'grants', n.owner, n.collaboration_id)
    from (select distinct owner, collaboration_id from written) n
    where (select c.owner from collaborations c where c.id = n.collaboration_id) is distinct from n.owner;
    perform refuse_reference('grants_role_fkey', 'grants', n.owner, n.role_id)
    from (select distinct owner, role_id from written) n
    where (select true from roles r where r.owner = n.owner and r.id = n.role_id) is null;
    perform refuse_reference('grants_environment_fkey', 'grants', n.owner, n.environment_id)
    from (select distinct owner, environment_id from written where environment_id is not null) n
    where (select true from environments e where e.owner = n.owner and e.id = n.environment_id) is null;
    perform refuse_reference('grants_group_fkey', 'grants', n.owner, n.group_id)
    from (select distinct owner, group_id from written where group_id is not null) n
    where (select true from groups g where g.owner = n.owner and g.id = n.group_id) is null;
    return null;
end
$$;

create or replace function check_environment_groups() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('environment_groups_environment_fkey', 'environment_groups', n.owner, n.environment_id)
    from (select distinct owner, environment_id from written) n
    where (select true from environments e where e.owner = n.owner and e.id = n.environment_id) is null;
    perform refuse_reference('environment_groups_group_fkey', 'environment_groups', n.owner, n.group_id)
    from (select distinct owner, group_id from written) n
    where (select true from groups g where g.owner = n.owner and g.id = n.group_id) is null;
    return null;
end
$$;

create or replace function check_role_policies() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('role_policies_role_fkey', 'role_policies', n.owner, n.role_id)
    from (select distinct owner, role_id from written) n
    where (select true from roles r where r.owner = n.owner and r.id = n.role_id) is null;
    perform refuse_reference('role_policies_custom_fkey', 'role_policies', n.owner, n.custom_policy)
    from (select distinct owner, custom_policy from written where custom_policy is not null) n
    where (select true from policies p where p.owner = n.owner and p.id = n.custom_policy) is null;
    perform refuse_reference('role_policies_system_fkey', 'role_policies', '', n.system_policy)
    from (select distinct system_policy from written where system_policy is not null) n
    where (select true from system_policies s where s.id = n.system_policy) is null;
    return null;
end
$$;

-- Of groups, environments, policies, roles and collaborations.
create function check_owners() returns trigger language plpgsql as
$$
begin
    perform refuse_reference(tg_table_name || '_owner_fkey', tg_table_name, n.owner, n.owner)
    from (select distinct owner from written) n
    where (select true from accounts a where a.id = n.owner) is null;
    return null;
end
$$;

create function check_parents() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('groups_parent_fkey', 'groups', n.owner, n.parent)
    from (select distinct owner, parent from written where parent is not null) n
    where (select true from groups g where g.owner = n.owner and g.id = n.parent) is null;
    return null;
end
$$;

create function check_accounts() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('collaborations_account_fkey', 'collaborations', '', n.account)
    from (select distinct account from written where account is not null) n
    where (select true from accounts a where a.id = n.account) is null;
    return null;
end
$$;

-- Of a row that is changed: few are, and most changes touch neither.
create function check_parent() returns trigger language plpgsql as
$$
begin
    if (select true from groups g where g.owner = new.owner and g.id = new.parent) is null then
        perform refuse_reference('groups_parent_fkey', 'groups', new.owner, new.parent);
    end if;
    return null;
end
$$;

create function check_account() returns trigger language plpgsql as
$$
begin
    if (select true from accounts a where a.id = new.account) is null then
        perform refuse_reference('collaborations_account_fkey', 'collaborations', new.owner, new.account);
    end if;
    return null;
end
$$;

create or replace function check_groups_gone() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('groups_parent_fkey', 'groups', o.owner, o.id) from gone o
    where (select true from groups g where g.owner = o.owner and g.parent = o.id limit 1);
    perform refuse_reference('grants_group_fkey', 'grants', o.owner, o.id) from gone o
    where (select true from grants g where g.owner = o.owner and g.group_id = o.id limit 1);
    perform refuse_reference('environment_groups_group_fkey', 'environment_groups', o.owner, o.id) from gone o
    where (select true from environment_groups p where p.owner = o.owner and p.group_id = o.id limit 1);
    return null;
end
$$;

create function check_accounts_gone() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('groups_owner_fkey', 'groups', o.id, o.id) from gone o
    where (select true from groups g where g.owner = o.id limit 1);
    perform refuse_reference('environments_owner_fkey', 'environments', o.id, o.id) from gone o
    where (select true from environments e where e.owner = o.id limit 1);
    perform refuse_reference('policies_owner_fkey', 'policies', o.id, o.id) from gone o
    where (select true from policies p where p.owner = o.id limit 1);
    perform refuse_reference('roles_owner_fkey', 'roles', o.id, o.id) from gone o
    where (select true from roles r where r.owner = o.id limit 1);
    perform refuse_reference('collaborations_owner_fkey', 'collaborations', o.id, o.id) from gone o
    where (select true from collaborations c where c.owner = o.id limit 1);
    perform refuse_reference('collaborations_account_fkey', 'collaborations', '', o.id) from gone o
    where (select true from collaborations c where c.account = o.id limit 1);
    return null;
end
$$;
-- +goose StatementEnd

create trigger groups_owners after insert on groups
    referencing new table as written for each statement execute function check_owners();
create trigger groups_parents after insert on groups
    referencing new table as written for each statement execute function check_parents();
create trigger groups_parent after update of parent on groups
    for each row when (new.parent is distinct from old.parent and new.parent is not null) execute function check_parent();
create trigger environments_owners after insert on environments
    referencing new table as written for each statement execute function check_owners();
create trigger policies_owners after insert on policies
    referencing new table as written for each statement execute function check_owners();
create trigger roles_owners after insert on roles
    referencing new table as written for each statement execute function check_owners();
create trigger collaborations_owners after insert on collaborations
    referencing new table as written for each statement execute function check_owners();
create trigger collaborations_accounts after insert on collaborations
    referencing new table as written for each statement execute function check_accounts();
create trigger collaborations_account after update of account on collaborations
    for each row when (new.account is distinct from old.account and new.account is not null) execute function check_account();
create trigger accounts_gone after delete on accounts
    referencing old table as gone for each statement execute function check_accounts_gone();

-- The columns that these checks compare are written once.
create trigger accounts_key before update of id on accounts
    for each row execute function forbid_change_of_key();

update usher_schema set version = 15;
