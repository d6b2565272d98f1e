-- The references of grants, places of environments and roles' policies are checked
-- once a statement instead of once a row: an import copies them in by the thousand,
-- and a foreign key's trigger runs a query for each. That no two transactions can pass
-- each other in between is the lock's doing: every writer holds it. What is wrong is
-- said as a foreign key would say it: by SQLSTATE, table and constraint.
--
-- The look-ups are scalar subqueries, which stay look-ups by the primary key: a join's
-- plan is kept with the function, and one that was made for a thousand rows would read
-- whole tables for one.

-- +goose Up
alter table grants
    drop constraint grants_collaboration_fkey,
    drop constraint grants_role_fkey,
    drop constraint grants_environment_fkey,
    drop constraint grants_group_fkey;
alter table environment_groups
    drop constraint environment_groups_environment_fkey,
    drop constraint environment_groups_group_fkey;
alter table role_policies
    drop constraint role_policies_role_fkey,
    drop constraint role_policies_custom_fkey,
    drop constraint role_policies_system_fkey;

-- +goose StatementBegin
create function refuse_reference(name text, of text, owner text, id text) returns void language plpgsql as
$$
begin
    raise exception 'there is no % that % refers to', quote_literal(id), of
        using errcode = 'foreign_key_violation', constraint = name, table = of, detail = format('Owner %L.', owner);
end
$$;

create function check_grants() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('grants_collaboration_fkey', 'grants', n.owner, n.collaboration_id) from written n
    where (select true from collaborations c where c.owner = n.owner and c.id = n.collaboration_id) is null;
    perform refuse_reference('grants_role_fkey', 'grants', n.owner, n.role_id) from written n
    where (select true from roles r where r.owner = n.owner and r.id = n.role_id) is null;
    perform refuse_reference('grants_environment_fkey', 'grants', n.owner, n.environment_id) from written n
    where n.environment_id is not null
      and (select true from environments e where e.owner = n.owner and e.id = n.environment_id) is null;
    perform refuse_reference('grants_group_fkey', 'grants', n.owner, n.group_id) from written n
    where n.group_id is not null
      and (select true from groups g where g.owner = n.owner and g.id = n.group_id) is null;
    return null;
end
$$;

create function check_environment_groups() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('environment_groups_environment_fkey', 'environment_groups', n.owner, n.environment_id) from written n
    where (select true from environments e where e.owner = n.owner and e.id = n.environment_id) is null;
    perform refuse_reference('environment_groups_group_fkey', 'environment_groups', n.owner, n.group_id) from written n
    where (select true from groups g where g.owner = n.owner and g.id = n.group_id) is null;
    return null;
end
$$;

create function check_role_policies() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('role_policies_role_fkey', 'role_policies', n.owner, n.role_id) from written n
    where (select true from roles r where r.owner = n.owner and r.id = n.role_id) is null;
    perform refuse_reference('role_policies_custom_fkey', 'role_policies', n.owner, n.custom_policy) from written n
    where n.custom_policy is not null
      and (select true from policies p where p.owner = n.owner and p.id = n.custom_policy) is null;
    perform refuse_reference('role_policies_system_fkey', 'role_policies', n.owner, n.system_policy) from written n
    where n.system_policy is not null
      and (select true from system_policies s where s.id = n.system_policy) is null;
    return null;
end
$$;

create function check_collaborations_gone() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('grants_collaboration_fkey', 'grants', o.owner, o.id) from gone o
    where (select true from grants g where g.owner = o.owner and g.collaboration_id = o.id limit 1);
    return null;
end
$$;

create function check_roles_gone() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('grants_role_fkey', 'grants', o.owner, o.id) from gone o
    where (select true from grants g where g.owner = o.owner and g.role_id = o.id limit 1);
    perform refuse_reference('role_policies_role_fkey', 'role_policies', o.owner, o.id) from gone o
    where (select true from role_policies p where p.owner = o.owner and p.role_id = o.id limit 1);
    return null;
end
$$;

create function check_environments_gone() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('grants_environment_fkey', 'grants', o.owner, o.id) from gone o
    where (select true from grants g where g.owner = o.owner and g.environment_id = o.id limit 1);
    perform refuse_reference('environment_groups_environment_fkey', 'environment_groups', o.owner, o.id) from gone o
    where (select true from environment_groups p where p.owner = o.owner and p.environment_id = o.id limit 1);
    return null;
end
$$;

create function check_groups_gone() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('grants_group_fkey', 'grants', o.owner, o.id) from gone o
    where (select true from grants g where g.owner = o.owner and g.group_id = o.id limit 1);
    perform refuse_reference('environment_groups_group_fkey', 'environment_groups', o.owner, o.id) from gone o
    where (select true from environment_groups p where p.owner = o.owner and p.group_id = o.id limit 1);
    return null;
end
$$;

create function check_policies_gone() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('role_policies_custom_fkey', 'role_policies', o.owner, o.id) from gone o
    where (select true from role_policies p where p.owner = o.owner and p.custom_policy = o.id limit 1);
    return null;
end
$$;

create function check_system_policies_gone() returns trigger language plpgsql as
$$
begin
    perform refuse_reference('role_policies_system_fkey', 'role_policies', '', o.id) from gone o
    where (select true from role_policies p where p.system_policy = o.id limit 1);
    return null;
end
$$;

create function forbid_change_of_key() returns trigger language plpgsql as
$$
begin
    raise exception 'keys do not change' using errcode = 'foreign_key_violation', constraint = 'key_stays', table = tg_table_name;
end
$$;
-- +goose StatementEnd

create trigger grants_references after insert on grants
    referencing new table as written for each statement execute function check_grants();
create trigger environment_groups_references after insert on environment_groups
    referencing new table as written for each statement execute function check_environment_groups();
create trigger role_policies_references after insert on role_policies
    referencing new table as written for each statement execute function check_role_policies();

create trigger collaborations_gone after delete on collaborations
    referencing old table as gone for each statement execute function check_collaborations_gone();
create trigger roles_gone after delete on roles
    referencing old table as gone for each statement execute function check_roles_gone();
create trigger environments_gone after delete on environments
    referencing old table as gone for each statement execute function check_environments_gone();
create trigger groups_gone after delete on groups
    referencing old table as gone for each statement execute function check_groups_gone();
create trigger policies_gone after delete on policies
    referencing old table as gone for each statement execute function check_policies_gone();
create trigger system_policies_gone after delete on system_policies
    referencing old table as gone for each statement execute function check_system_policies_gone();

-- The columns that these checks compare are written once.
create trigger grants_key before update of owner, collaboration_id, resource_type, resource_id, role_id on grants
    for each row execute function forbid_change_of_key();
create trigger environment_groups_key before update on environment_groups
    for each row execute function forbid_change_of_key();
create trigger role_policies_key before update on role_policies
    for each row execute function forbid_change_of_key();
create trigger collaborations_key before update of owner, id on collaborations
    for each row execute function forbid_change_of_key();
create trigger roles_key before update of owner, id on roles
    for each row execute function forbid_change_of_key();
create trigger environments_key before update of owner, id on environments
    for each row execute function forbid_change_of_key();
create trigger groups_key before update of owner, id on groups
    for each row execute function forbid_change_of_key();
create trigger policies_key before update of owner, id on policies
    for each row execute function forbid_change_of_key();

update usher_schema set version = 13;
