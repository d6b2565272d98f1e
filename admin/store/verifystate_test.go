package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What somebody would do who goes past the log to gain something.
func TestVerifyState(t *testing.T) {
	t.Parallel()
	f, x := eventful(t)
	report, err := f.VerifyState(t.Context())
	require.NoError(t, err)
	require.Nil(t, report.Differs)
	require.Greater(t, report.Objects, uint64(10))
	for _, c := range []struct{ sql, undo, kind, id, what string }{
		{
			`update grants set role_id = 'none' where role_id = 'role-0'`, `update grants set role_id = 'role-0' where role_id = 'none'`,
			"grant", "", "last wrote",
		},
		{
			`update collaborations set status = 'suspended' where status = 'active'`, `update collaborations set status = 'active' where status = 'suspended'`,
			"member", "", "last wrote",
		},
		{
			`insert into accounts (id, email, email_key, display_name, created_at, revision) values ('zoe', 'z', 'z', '', now(), 1)`,
			`delete from accounts where id = 'zoe'`, "account", "zoe", "the log does not",
		},
		{`update groups set parent = null where id = 'g2'`, `update groups set parent = 'g1' where id = 'g2'`, "group", "g2", "last wrote"},
		{`delete from role_policies where role_id = 'viewer'`, "", "role", "viewer", "last wrote"},
		{`delete from roles where id = 'viewer'`, "", "role", "viewer", "the tables do not"},
	} {
		x.run(c.sql)
		report, err := f.VerifyState(t.Context())
		require.NoError(t, err)
		require.NotNil(t, report.Differs, c.sql)
		require.Equal(t, c.kind, string(report.Differs.Kind), c.sql)
		require.Contains(t, report.Differs.String(), c.what, c.sql)
		if c.id != "" {
			require.Equal(t, c.id, report.Differs.ID)
		}
		if c.undo != "" {
			x.run(c.undo)
		}
	}
}
