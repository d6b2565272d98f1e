package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// verify walks the log and gives what is broken.
func verify(t *testing.T, s *store.Store, heads ...store.Header) store.VerifyReport {
	t.Helper()
	report, err := s.Verify(t.Context(), store.VerifyOptions{Heads: heads})
	require.NoError(t, err)
	return report
}

// tampering is a superuser on a database whose log can be put back.
type tampering struct {
	t    *testing.T
	conn *pgx.Conn
}

var logTables = []string{"revisions", "changes", "platform", "policies_in_force"}

func newTampering(t *testing.T, url string) *tampering {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) })
	x := &tampering{t, conn}
	x.run("set session_replication_role = replica") // no triggers, no foreign keys
	for _, table := range logTables {
		x.run(fmt.Sprintf("create table kept_%[1]s as table %[1]s", table))
	}
	return x
}

func (x *tampering) run(sql string) {
	x.t.Helper()
	_, err := x.conn.Exec(x.t.Context(), sql)
	require.NoError(x.t, err, sql)
}

// restore undoes everything.
func (x *tampering) restore() {
	x.t.Helper()
	for _, table := range logTables {
		var columns string
		require.NoError(x.t, x.conn.QueryRow(x.t.Context(), `select string_agg(quote_ident(column_name), ', ') from information_schema.columns
where table_schema = 'public' and table_name = $1 and is_generated = 'NEVER'`, table).Scan(&columns))
		x.run("delete from " + table)
		x.run(fmt.Sprintf("insert into %[1]s (%[2]s) select %[2]s from kept_%[1]s", table, columns))
	}
}

// A log with what there is: made, changed and deleted objects of all kinds, an import,
// a second epoch, addresses, and data of persons.
func eventful(t *testing.T) (*fixture, *tampering) {
	t.Helper()
	url := storetest.URL(t)
	c := newClock()
	f := newFixture(t, storetest.New(t, store.Options{URL: url, Clock: c.Now}), c)
	by := store.Call{Actor: store.Actor{Token: "token-x", TokenName: "Deploy", Account: owner, Address: "192.0.2.7", RequestID: "request-1"}}
	invited, err := f.Invite(t.Context(), by, owner, store.Invitation{Email: "mia@example.com", Grants: []policies.Grant{grant("environment", "e1", "viewer")}})
	require.NoError(t, err)
	c.Advance(time.Minute)
	_, err = f.PutGrant(t.Context(), by, owner, invited.Value.ID, grant("environment", "e1", "dev"))
	require.NoError(t, err)
	_, err = f.Import(t.Context(), by, lines(standardDocument(1, 100)), nil)
	require.NoError(t, err)
	_, err = f.NewEpoch(t.Context(), by)
	require.NoError(t, err)
	_, err = f.RemoveMember(t.Context(), by, owner, invited.Value.ID)
	require.NoError(t, err)
	return f, newTampering(t, url)
}

func TestVerify(t *testing.T) {
	t.Parallel()
	f, _ := eventful(t)
	head, err := f.Head(t.Context())
	require.NoError(t, err)
	var done, total uint64
	report, err := f.Verify(t.Context(), store.VerifyOptions{
		Heads: []store.Header{head}, Progress: func(d, t uint64) { done, total = d, t },
	})
	require.NoError(t, err)
	require.Nil(t, report.Broken)
	require.Equal(t, head, report.Header)
	require.Positive(t, report.Revisions)
	require.Greater(t, report.Entries, report.Revisions)
	require.Zero(t, report.Erased)
	require.Equal(t, report.Revisions, done)
	require.Equal(t, done, total)

	// Kept heads that the log does not lead through.
	other := head
	other.Platform = "another"
	require.Contains(t, verify(t, f.Store, other).Broken.What, "of platform another")
	other = head
	other.Hash[0]++
	require.Contains(t, verify(t, f.Store, other).Broken.What, "written anew")
	other = head
	other.Revision++
	require.Contains(t, verify(t, f.Store, other).Broken.What, "the log ends at revision")
	other.Revision = policies.NewRevision(0, 1000)
	require.Contains(t, verify(t, f.Store, other).Broken.What, "goes on in another epoch")
}

// Whatever column is changed, with the triggers off, verification names it.
func TestVerifyNamesEveryColumn(t *testing.T) {
	t.Parallel()
	f, x := eventful(t)
	rows, err := x.conn.Query(t.Context(), `select table_name, column_name, data_type from information_schema.columns
where table_schema = 'public' and table_name in ('revisions', 'changes') order by table_name, ordinal_position`)
	require.NoError(t, err)
	type column struct{ TableName, ColumnName, DataType string }
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	require.NoError(t, err)
	require.Greater(t, len(columns), 20)
	// The revision that put the grant: it has an address; and the invitation's, whose
	// first entry has data of a person.
	where := map[string]string{
		"revisions": "action = 'grant.put'",
		"changes":   "revision = (select revision from revisions where action = 'member.invite') and ordinal = 0",
	}
	named := map[string]string{"personal_salt": "personal", "address_salt": "address"}
	changed := map[string]string{
		"text": "%[1]s || 'x'", "bigint": "%[1]s + 1000", "integer": "%[1]s + 1000", "boolean": "not %[1]s", "ARRAY": "%[1]s || 'x'::text",
		"bytea": "set_byte(%[1]s, 0, get_byte(%[1]s, 0) # 1)", "timestamp with time zone": "%[1]s + interval '1 microsecond'",
	}
	for _, c := range columns {
		if c.ColumnName == "transaction" {
			continue // by which a commit is looked up while it happens; no part of the audit
		}
		value := fmt.Sprintf(changed[c.DataType], c.ColumnName)
		if c.ColumnName == "before" {
			value = `'{"x":1}'`
		}
		require.NotEmpty(t, value, "%v", c)
		x.run(fmt.Sprintf("update %s set %s = %s where %s", c.TableName, c.ColumnName, value, where[c.TableName]))
		broken := verify(t, f.Store).Broken
		require.NotNil(t, broken, "%v", c)
		name := named[c.ColumnName]
		if name == "" {
			name = c.ColumnName
		}
		require.Contains(t, broken.What, name, "%v: %s", c, broken)
		x.restore()
		require.Nil(t, verify(t, f.Store).Broken, "%v", c)
	}
}

// What somebody would do who wants to hide something.
func TestVerifyNamesTheFirstBrokenLink(t *testing.T) {
	t.Parallel()
	f, x := eventful(t)
	put := "(select revision from revisions where action = 'grant.put')"
	var at, last policies.Revision
	require.NoError(t, x.conn.QueryRow(t.Context(), "select "+put+", max(revision) from revisions").Scan(&at, &last))
	for _, c := range []struct {
		sql   string
		at    policies.Revision
		entry int
		what  string
	}{
		{`update changes set after = replace(after, '["dev"]', '["viewer"]') where revision = ` + put, at, 0, "after was changed"},
		{`update changes set before = null where revision = ` + put, at, 0, "before was changed"},
		{`update changes set personal = '{"after":{}}' where revision = ` + put + `- 1 and ordinal = 0`, at - 1, 0, "personal"},
		{`update changes set personal = null, personal_salt = null, personal_hash = null where revision = ` + put + `- 1 and ordinal = 0`, at - 1, -1, "an entry"},
		{`delete from changes where revision = ` + put + `- 1 and ordinal = 1`, at - 1, -1, "the entry of grant"},
		{`delete from changes where revision = ` + put + `- 1 and ordinal = 0`, at - 1, 0, "was deleted"},
		{`delete from changes where revision = ` + put, at, -1, "no entries"},
		{`delete from changes where revision = ` + put + `; delete from revisions where revision = ` + put, at, -1, "missing"},
		{`update revisions set objects = replace(objects, '["dev"]', '["viewer"]') where revision = ` + put, at, -1, "objects was changed"},
		{`update revisions set hash = sha256('x') where revision = ` + put, at, -1, "hash was changed"},
		{`update revisions set hash = sha256('x') where revision = (select max(revision) from revisions)`, last, -1, "hash was changed"},
		{`update revisions set account = 'max' where revision = ` + put, at, -1, "account"},
		{`update revisions set address = null, address_salt = null, address_hash = null where revision = ` + put, at, -1, "address"},
		{`insert into changes (owner, revision, ordinal, kind, id) values ('max', ` + put + `, 1, 'grant', 'x')`, at, 1, "no revision"},
		{`insert into changes (owner, revision, ordinal, kind, id) values ('owner', ` + put + `, 1, 'grant', 'x')`, at, -1, "an entry"},
		{`delete from revisions where revision = (select max(revision) from revisions)`, last, -1, "the log ends"},
		{`update platform set hash = sha256('x')`, last, -1, "platform.hash"},
		{`update platform set revision = revision + 1`, last + 1, -1, "platform.revision"},
		{`update platform set policy_digest = sha256('x')`, last, -1, "policy_digest"},
		{`update policies_in_force set body = replace(body, 'granted', 'allowed')`, last, -1, "policies_in_force.body"},
	} {
		x.run(c.sql)
		broken := verify(t, f.Store).Broken
		require.NotNil(t, broken, c.sql)
		require.Equal(t, c.at, broken.Revision, "%s: %s", c.sql, broken)
		require.Equal(t, c.entry, broken.Entry, "%s: %s", c.sql, broken)
		require.Contains(t, broken.String(), c.what, c.sql)
		x.restore()
	}
	require.Nil(t, verify(t, f.Store).Broken)
}
