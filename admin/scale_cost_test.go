package admin_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// What a change of one grant costs is counted in rows that PostgreSQL reads and in
// allocations of the server's process: the machine's other work weighs on neither. No
// other test may run meanwhile, since that would allocate, too.
func TestOneGrantCostsTheSameInALargeAccount(t *testing.T) {
	const changes = 20
	url := importScale(t, 1000)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	_, err = conn.Exec(t.Context(), `analyze`)
	require.NoError(t, err)

	small, big := rowsRead(t, conn, url, "small", changes), rowsRead(t, conn, url, "big", changes)
	t.Log("rows", small, big)
	require.Positive(t, small)
	require.Less(t, big, small+100*changes)

	s := &scale{platform: startOn(t, url), members: 1000}
	small, big = s.allocations("small", changes), s.allocations("big", changes)
	t.Log("allocations", small, big)
	require.Less(t, big, small+small/2)
}

// rowsRead is how many rows of tables PostgreSQL reads for some changes of a grant. A
// connection's count is there once it is closed.
func rowsRead(t *testing.T, conn *pgx.Conn, url, owner string, changes int) (rows int) {
	t.Helper()
	count := func() (rows int) {
		eventually(t, time.Minute, func() bool {
			var others int
			require.NoError(t, conn.QueryRow(t.Context(), `select count(*) from pg_stat_activity where datname = current_database()
    and pid <> pg_backend_pid() and backend_type = 'client backend'`).Scan(&others))
			return others == 0
		})
		require.NoError(t, conn.QueryRow(t.Context(), `select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint
from pg_stat_user_tables`).Scan(&rows))
		return rows
	}
	before := count()
	s, err := store.Open(t.Context(), store.Options{URL: url})
	require.NoError(t, err)
	members, err := s.ListMembers(t.Context(), policies.AccountID(owner), store.MemberFilter{}, store.Page{Limit: 1})
	require.NoError(t, err)
	resource := policies.Resource{Type: policies.TypeEnvironment, ID: owner + "-e-7"}
	for i := range changes {
		role := []policies.RoleID{"common", "manager"}[i%2]
		r, err := s.PutGrant(t.Context(), store.Call{Actor: store.Actor{Local: true}}, policies.AccountID(owner), members.Items[0].Value.ID,
			policies.Grant{Resource: resource, Roles: []policies.RoleID{role}})
		require.NoError(t, err)
		require.True(t, r.Changed)
	}
	s.Close()
	return count() - before
}

// allocations are those of the process for some changes of a grant over REST, until
// the engine has them.
func (s *scale) allocations(owner string, changes int) int {
	s.t.Helper()
	change := s.grantChanger(owner)
	change() // what is made once
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range changes {
		revision := change()
		s.do("GET", "/v1/accounts/"+owner+"/resources/account/"+owner+"/collaborators?limit=1", nil, with("Usher-Min-Revision", revision.String())).want(200)
	}
	runtime.ReadMemStats(&after)
	return int(after.Mallocs - before.Mallocs)
}
