package admin_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// What services read of other people is written down; what accounts read of their own
// is not.
func TestReadsAreLogged(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.account("own")
	p.account("mia")
	member := p.member("own", "mia")
	p.do("GET", "/v1/accounts/own/members", nil).want(200)
	p.do("GET", "/v1/accounts/own/members", nil, as("own")).want(200)
	p.do("GET", "/v1/accounts/own/members/"+member+"/permissions?type=account&id=own", nil).want(200)
	p.do("GET", "/v1/accounts/own/roles", nil).want(200)
	p.do("GET", "/v1/audit?limit=1", nil).want(200)
	var reads answer
	eventually(t, 40*time.Second, func() bool {
		reads = p.do("GET", "/v1/accounts/own/audit/reads", nil, as("own")).want(200)
		return reads.len("items") >= 2
	})
	require.Equal(t, 2, reads.len("items"))
	require.Equal(t, "get-permissions", reads.text("items.0.operation"))
	require.Equal(t, "/v1/accounts/own/members/"+member+"/permissions?type=account&id=own", reads.text("items.0.path"))
	require.Equal(t, "127.0.0.1", reads.text("items.0.actor.address"))
	require.Equal(t, "list-members", reads.text("items.1.operation"))
	eventually(t, 40*time.Second, func() bool {
		reads = p.do("GET", "/v1/audit/reads?limit=2", nil).want(200)
		return reads.len("items") == 2
	})
	next := p.do("GET", "/v1/audit/reads?limit=1000&cursor="+reads.text("next_cursor"), nil).want(200)
	require.NotEmpty(t, next.get("items"))
	require.Zero(t, p.do("GET", "/v1/audit/reads?actor=nobody", nil).want(200).len("items"))
	p.do("GET", "/v1/audit/reads", nil, as("own")).want(403)
	p.do("GET", "/v1/accounts/own/audit/reads", nil, as("mia")).want(403)

	conn, err := pgx.Connect(t.Context(), p.database)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	for _, sql := range []string{"update reads set token = 'x'", "delete from reads", "truncate reads"} {
		_, err := conn.Exec(t.Context(), sql)
		require.ErrorContains(t, err, "append-only", sql)
	}
}
