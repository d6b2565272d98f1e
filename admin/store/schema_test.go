package store_test

import (
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/migrations"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// run executes SQL as the superuser.
func run(t *testing.T, url, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	_, err = conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func inForce(t *testing.T) policies.PolicyInForce {
	t.Helper()
	p, err := policiestest.PolicyInForce()
	require.NoError(t, err)
	return p
}

func TestVersionIsTheNewestMigration(t *testing.T) {
	t.Parallel()
	entries, err := migrations.Files.ReadDir(".")
	require.NoError(t, err)
	newest := int64(0)
	for i, e := range entries {
		m := regexp.MustCompile(`^(\d{5})_\w+\.sql$`).FindStringSubmatch(e.Name())
		require.NotNil(t, m, e.Name())
		newest, err = strconv.ParseInt(m[1], 10, 64)
		require.NoError(t, err)
		require.Equal(t, int64(i+1), newest, "numbered without gaps")
	}
	require.EqualValues(t, migrations.Version, newest)
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	database := storetest.EmptyURL(t)
	var bad *store.SchemaError
	_, err := store.Open(t.Context(), store.Options{URL: database})
	require.ErrorAs(t, err, &bad)
	require.ErrorContains(t, err, "run `usher migrate`")

	// Several at once, as replicas that start together.
	reports := make([]store.MigrateReport, 4)
	var wait sync.WaitGroup
	for i := range reports {
		wait.Go(func() {
			var err error
			reports[i], err = store.Migrate(t.Context(), database, inForce(t), io.Discard, store.MigrateOptions{})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	put := 0
	for _, r := range reports {
		require.EqualValues(t, migrations.Version, r.To)
		require.Equal(t, policies.Revision(1), r.Revision)
		if r.PolicyChanged {
			put++
		}
	}
	require.Equal(t, 1, put, "one put the policy in force")
	s, err := store.Open(t.Context(), store.Options{URL: database})
	require.NoError(t, err)
	defer s.Close()
	p, revision, err := s.PolicyInForce(t.Context())
	require.NoError(t, err)
	require.Equal(t, inForce(t).Digest, p.Digest)
	require.Equal(t, policies.Revision(1), revision)
	requireSound(t, s)
}

func TestSchemasThatCannotBeServed(t *testing.T) {
	t.Parallel()
	database := storetest.URL(t)
	open := func() error {
		s, err := store.Open(t.Context(), store.Options{URL: database})
		if err == nil {
			s.Close()
		}
		return err
	}
	require.NoError(t, open())
	var bad *store.SchemaError
	run(t, database, "update usher_schema set version = 0")
	require.ErrorAs(t, open(), &bad)
	run(t, database, "update usher_schema set version = 99, needs = 98")
	require.ErrorAs(t, open(), &bad)
	require.Equal(t, &store.SchemaError{Version: 99, Serves: migrations.Version, Needs: 98}, bad)
	require.ErrorContains(t, bad, "version 99, which needs an usher for version 98 or later")
	// A newer schema that lets this binary in: a rolling upgrade.
	run(t, database, "update usher_schema set version = 99, needs = 1")
	require.NoError(t, open())
	run(t, database, "insert into usher_migrations (version_id, is_applied) values (99, true)")
	_, err := store.Migrate(t.Context(), database, inForce(t), io.Discard, store.MigrateOptions{})
	require.ErrorAs(t, err, &bad)
	require.ErrorContains(t, err, "of a newer usher")
}

func TestErrorsOfConnecting(t *testing.T) {
	t.Parallel()
	_, err := store.Open(t.Context(), store.Options{URL: "postgres://user:secret@127.0.0.1:1/x?connect_timeout=1"})
	var gone *store.UnavailableError
	require.ErrorAs(t, err, &gone)
	require.NotContains(t, err.Error(), "secret")
	_, err = store.Open(t.Context(), store.Options{URL: "postgres://user:secret@127.0.0.1:port/x"})
	require.ErrorContains(t, err, "the database URL is not valid")
	require.NotContains(t, err.Error(), "secret")
	database, err := url.Parse(storetest.EmptyURL(t))
	require.NoError(t, err)
	name := database.Path[1:] + "_latin"
	run(t, database.String(), "create database "+name+" encoding 'LATIN1' template template0")
	database.Path = "/" + name
	_, err = store.Migrate(t.Context(), database.String(), inForce(t), io.Discard, store.MigrateOptions{})
	require.ErrorContains(t, err, "usher needs UTF8")
}

// The role that `usher admin` connects as can do all its work, but not touch the log.
func TestGrantTo(t *testing.T) {
	t.Parallel()
	superuser := storetest.URL(t)
	database, err := url.Parse(superuser)
	require.NoError(t, err)
	role := "app" + database.Path[1:]
	run(t, superuser, "create role "+role+" login password 'secret'")

	_, err = store.Migrate(t.Context(), superuser, inForce(t), io.Discard, store.MigrateOptions{GrantTo: role})
	require.NoError(t, err)
	database.User = url.UserPassword(role, "secret")
	c := newClock()
	f := newFixture(t, storetest.New(t, store.Options{URL: database.String(), Clock: c.Now}), c)
	key := call()
	key.IdempotencyKey = "key"
	_, err = f.MakeDefaultRoles(t.Context(), key, owner)
	require.NoError(t, err)
	_, err = f.Import(t.Context(), call(), lines(standardDocument(1, 100), standardDocument(2, 100)), nil)
	require.NoError(t, err)
	_, _, err = f.CreateToken(t.Context(), call(), "x", []policies.Scope{policies.ScopeAudit}, nil)
	require.NoError(t, err)
	require.NoError(t, f.KeepDecisions(t.Context(), 24*time.Hour))
	logged, err := f.LogDecisions(t.Context(), []store.Logged{loggedAt(c.Now(), "d", "mia", "a.Start", "e1", store.OutcomeAllow)})
	require.NoError(t, err)
	require.Equal(t, 1, logged)
	place, err := f.LastPlace(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, place)
	_, err = f.NewEpoch(t.Context(), call())
	require.NoError(t, err)
	_, err = f.DeleteAccount(t.Context(), call(), owner)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), database.String())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	for _, sql := range []string{
		"update revisions set address = null", "delete from revisions", "truncate revisions",
		"update changes set personal = null", "delete from changes", "truncate changes", "drop table changes", "alter table changes disable trigger all",
	} {
		_, err := conn.Exec(t.Context(), sql)
		var denied *pgconn.PgError
		require.ErrorAs(t, err, &denied, sql)
		require.Equal(t, "42501", denied.Code, sql)
	}
	_, err = store.Migrate(t.Context(), superuser, inForce(t), io.Discard, store.MigrateOptions{GrantTo: "nobody_by_that_name"})
	require.ErrorContains(t, err, `grant to the role "nobody_by_that_name"`)

}

func TestACatalogueThatDropsWhatIsInUse(t *testing.T) {
	t.Parallel()
	database := storetest.URL(t)
	c := newClock()
	f := newFixture(t, storetest.New(t, store.Options{URL: database, Clock: c.Now}), c)
	start := "environment.control.StartEnv"
	_, err := f.CreatePolicy(t.Context(), call(), owner, policies.Policy{ID: "starter", Name: "x", Actions: []policies.ActionName{policies.ActionName(start)}})
	require.NoError(t, err)
	f.role("starters", "Starters", "environment.start")
	migrate := func(change func(*policies.Catalogue)) error {
		catalogue, err := policies.EmbeddedCatalogue()
		require.NoError(t, err)
		catalogue.Roles = nil
		change(&catalogue)
		p, err := policies.NewPolicyInForce(catalogue, map[string]string{"usher/authz/x.rego": "package usher.authz"})
		require.NoError(t, err)
		_, err = store.Migrate(t.Context(), database, p, io.Discard, store.MigrateOptions{})
		return err
	}
	drop := func(id policies.PolicyID) func(*policies.Catalogue) {
		return func(c *policies.Catalogue) {
			c.Policies = slices.DeleteFunc(c.Policies, func(p policies.SystemPolicy) bool { return p.ID == id })
		}
	}
	var refused *store.CatalogueError
	err = migrate(drop("environment.view"))
	require.ErrorAs(t, err, &refused)
	require.Contains(t, refused.Problems, `it drops the policy "environment.view", which the role "viewer" of account "owner" uses`)
	err = migrate(func(c *policies.Catalogue) {
		for i := range c.Policies {
			c.Policies[i].Actions = slices.DeleteFunc(c.Policies[i].Actions, func(a policies.ActionName) bool { return string(a) == start })
		}
	})
	require.ErrorAs(t, err, &refused)
	require.Equal(t, []string{
		`it drops the action "` + start + `", which the custom policy "starter" of account "owner" names`,
		`it drops the action "` + start + `", which the role "starters" of account "owner" uses by the policy "environment.start"`,
	}, refused.Problems)
	err = migrate(func(c *policies.Catalogue) {
		c.Policies = append(c.Policies, policies.SystemPolicy{ID: "p1", Name: "New"})
	})
	require.ErrorAs(t, err, &refused)
	require.Equal(t, []string{`it takes the id "p1" of a custom policy of account "owner"`}, refused.Problems)
	head, err := f.Head(t.Context())
	require.NoError(t, err)

	require.NoError(t, migrate(drop("account.billing")), "nobody uses that")
	after, err := f.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, head.Revision+1, after.Revision)
	_, err = f.CreateRole(t.Context(), call(), owner, policies.Role{ID: "billing", Name: "Billing", Policies: []policies.PolicyID{"account.billing"}})
	requireField(t, err, "policies[0]")
	require.NoError(t, migrate(drop("account.billing")))
	again, err := f.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, after, again, "the same policy makes no revision")
	requireSound(t, f.Store)
}

func TestEpochs(t *testing.T) {
	t.Parallel()
	database := storetest.URL(t)
	s := storetest.New(t, store.Options{URL: database})
	first, err := s.PutAccount(t.Context(), call(), policies.Account{ID: "one", Email: "one@example.com"})
	require.NoError(t, err)
	require.Equal(t, policies.NewRevision(0, 2), first.Revision)
	// As after a restore: the database is not the one recorded.
	run(t, database, "update platform set timeline = timeline + 1")
	second, err := s.PutAccount(t.Context(), call(), policies.Account{ID: "two", Email: "two@example.com"})
	require.NoError(t, err)
	require.Equal(t, policies.NewRevision(1, 1), second.Revision, "after the revision that began the epoch")
	run(t, database, "update platform set system_identifier = 'another'")
	other := storetest.New(t, store.Options{URL: database})
	head, err := other.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, policies.NewRevision(2, 0), head.Revision, "at the start")
	third, err := s.PutAccount(t.Context(), call(), policies.Account{ID: "three", Email: "three@example.com"})
	require.NoError(t, err)
	require.Equal(t, policies.NewRevision(2, 1), third.Revision)
	fourth, err := s.NewEpoch(t.Context(), call())
	require.NoError(t, err)
	require.Equal(t, policies.NewRevision(3, 0), fourth)
	list, err := s.Audit(t.Context(), store.AuditFilter{Action: "epoch.begin"}, store.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 3)
	for _, r := range []policies.Revision{0, first.Revision, second.Revision, fourth} {
		_, there, err := s.RevisionHash(t.Context(), r)
		require.NoError(t, err)
		require.True(t, there)
	}
	_, there, err := s.RevisionHash(t.Context(), first.Revision+1)
	require.NoError(t, err)
	require.False(t, there)
	_, replayed := replay(t, s)
	_, objects := snapshot(t, s)
	require.Equal(t, objects, replayed)
}

// The triggers that stand for foreign keys refuse what these would refuse, in the same
// words, in one statement of many rows too.
func TestReferences(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	report, err := storetest.New(t, store.Options{URL: url}).Import(t.Context(), call(), lines(standardDocument(1, 100)), nil)
	require.NoError(t, err)
	require.Empty(t, report.Errors)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	refuse := func(sql, constraint string) {
		t.Helper()
		_, err := conn.Exec(t.Context(), sql)
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused, sql)
		require.Equal(t, "23503", refused.Code, sql)
		require.Equal(t, constraint, refused.ConstraintName, sql)
	}
	refuse(`insert into grants select distinct owner, 'nobody', resource_type, resource_id, role_id from grants`, "grants_collaboration_fkey")
	refuse(`insert into grants select distinct owner, collaboration_id, resource_type, resource_id, 'none' from grants`, "grants_role_fkey")
	refuse(`insert into grants select distinct owner, collaboration_id, 'environment', 'none', role_id from grants`, "grants_environment_fkey")
	refuse(`insert into grants select distinct owner, collaboration_id, 'group', 'none', role_id from grants`, "grants_group_fkey")
	refuse(`insert into environment_groups select owner, id, 'none' from environments`, "environment_groups_group_fkey")
	refuse(`insert into environment_groups select owner, 'none', id from groups`, "environment_groups_environment_fkey")
	refuse(`insert into role_policies select distinct owner, 'none', policy_id, custom from role_policies`, "role_policies_role_fkey")
	refuse(`insert into role_policies select owner, id, 'none', true from roles`, "role_policies_custom_fkey")
	refuse(`insert into role_policies select owner, id, 'none', false from roles`, "role_policies_system_fkey")
	refuse(`insert into groups select distinct 'nobody', 'new', 'New', 'new', null, color, revision from groups`, "groups_owner_fkey")
	refuse(`insert into groups select distinct owner, 'new', 'New', 'new', 'none', color, revision from groups`, "groups_parent_fkey")
	refuse(`update groups set parent = 'none' where parent is not null`, "groups_parent_fkey")
	refuse(`insert into environments select distinct 'nobody', 'new', 'New', revision from environments`, "environments_owner_fkey")
	refuse(`insert into policies values ('nobody', 'own', 'Own', '', '{}', '{}', 1)`, "policies_owner_fkey")
	refuse(`insert into roles select 'nobody', id, name, name_key, description, receive_load_alerts, revision from roles`, "roles_owner_fkey")
	member := `insert into collaborations (owner, id, email, email_key, account, bound, invited_name, display_name, name_key, member_display_name, status,
    created_at, last_changed, revision) select %s, 'new', 'e', 'e', %s, false, '', '', '', '', status, created_at, last_changed, revision from collaborations limit 1`
	refuse(fmt.Sprintf(member, "'nobody'", "account"), "collaborations_owner_fkey")
	refuse(fmt.Sprintf(member, "owner", "'nobody'"), "collaborations_account_fkey")
	refuse(`update collaborations set account = 'nobody' where id in (select id from collaborations limit 1)`, "collaborations_account_fkey")
	refuse(`delete from groups g where exists (select from groups c where c.parent = g.id)`, "groups_parent_fkey")
	refuse(`update accounts set id = 'other'`, "key_stays")
	refuse(`update roles set id = 'other'`, "key_stays")
	refuse(`update grants set role_id = 'other'`, "key_stays")
	refuse(`update environment_groups set group_id = 'other'`, "key_stays")
	refuse(`delete from collaborations`, "grants_collaboration_fkey")
	refuse(`delete from roles`, "grants_role_fkey")
	refuse(`delete from environments`, "grants_environment_fkey")
	refuse(`delete from groups g where id in (select resource_id from grants) and not exists (select from groups c where c.parent = g.id)`, "grants_group_fkey")
	_, err = conn.Exec(t.Context(), `delete from grants;
insert into policies select owner, 'own', 'Own', '', '{}', '{}', revision from roles limit 1;
insert into role_policies select p.owner, r.id, p.id, true from policies p join roles r using (owner) limit 1`)
	require.NoError(t, err)
	refuse(`delete from roles`, "role_policies_role_fkey")
	refuse(`delete from policies`, "role_policies_custom_fkey")
	refuse(`delete from system_policies`, "role_policies_system_fkey")
	refuse(`delete from environments`, "environment_groups_environment_fkey")
	refuse(`delete from groups g where id in (select group_id from environment_groups) and not exists (select from groups c where c.parent = g.id)`,
		"environment_groups_group_fkey")
	// An account goes last of all that is its own, and of its memberships.
	for _, own := range []string{"groups", "environments", "policies", "roles", "collaborations"} {
		refuse(`delete from accounts where id in (select owner from `+own+`)`, own+"_owner_fkey")
		_, err := conn.Exec(t.Context(), map[string]string{
			"groups": `delete from environment_groups; delete from groups`, "environments": `delete from environments`,
			"policies": `delete from role_policies; delete from policies`, "roles": `delete from roles`, "collaborations": `select`,
		}[own])
		require.NoError(t, err)
	}
	refuse(`delete from accounts where id in (select account from collaborations)`, "collaborations_account_fkey")
}
