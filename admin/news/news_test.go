package news_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/news"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// edited is an account with members, each with the one role on the one group, and the
// log of one edit of that role: it allowed to see, and allows to start too.
type edited struct {
	state   *authz.State
	entries []store.Entry
}

func (e *edited) EntriesAfter(_ context.Context, _ store.AuditFilter, after store.Position, _ int) ([]store.Entry, error) {
	if after.Revision >= e.entries[0].Revision {
		return nil, nil
	}
	return e.entries, nil
}

func (*edited) ResourceNames(context.Context, policies.AccountID, []policies.Resource) (map[policies.Resource]string, error) {
	return map[policies.Resource]string{}, nil
}

func newEdited(tb testing.TB, members, environments int) *edited {
	tb.Helper()
	inForce, err := policiestest.PolicyInForce()
	require.NoError(tb, err)
	build := authz.NewBuilder(authz.Header{Platform: "test", Revision: 7})
	add := func(kind policies.Kind, owner policies.AccountID, id string, body any) {
		o, err := policies.NewObject(kind, owner, id, body)
		require.NoError(tb, err)
		require.NoError(tb, build.Add(o))
	}
	add(policies.KindPolicyInForce, "", string(policies.KindPolicyInForce), inForce)
	add(policies.KindAccount, "", "own", policies.AccountBody{})
	add(policies.KindGroup, "own", "g", policies.GroupBody{})
	for i := range environments {
		add(policies.KindEnvironment, "own", fmt.Sprintf("e%d", i), policies.EnvironmentBody{Groups: []policies.GroupID{"g"}})
	}
	add(policies.KindRole, "own", "r", policies.RoleBody{Name: "Role", Policies: []policies.PolicyID{"environment.start", "environment.view"}})
	for i := range members {
		account, id := policies.AccountID(fmt.Sprintf("a%d", i)), policies.CollaborationID(fmt.Sprintf("m%d", i))
		add(policies.KindAccount, "", string(account), policies.AccountBody{})
		add(policies.KindMember, "own", string(id), policies.MemberBody{Account: &account, Status: policies.StatusActive})
		key := policies.GrantKey{Member: id, Resource: policies.Resource{Type: policies.TypeGroup, ID: "g"}}
		add(policies.KindGrant, "own", key.String(), policies.GrantBody{Roles: []policies.RoleID{"r"}})
	}
	state, err := build.Build(tb.Context())
	require.NoError(tb, err)
	return &edited{state, []store.Entry{{
		Revision: 7, Kind: policies.KindRole, Owner: "own", ID: "r", Action: "role.update", Actor: store.Actor{Account: "own"},
		Before: jsontext.Value(`{"name":"Role","policies":["environment.view"],"receive_load_alerts":false,"description":""}`),
		After:  jsontext.Value(`{"name":"Role","policies":["environment.start","environment.view"],"receive_load_alerts":false,"description":""}`),
	}}}
}

func (e *edited) teller() *news.Teller {
	return news.NewTeller(e, func() *authz.State { return e.state }, time.Now)
}

// Beyond the bounds every active member is told, without a list; what is not in the
// state yet is nobody's news.
func TestNewsAreBounded(t *testing.T) {
	t.Parallel()
	e := newEdited(t, 5, 3)
	notices, last, err := e.teller().News(t.Context(), "own", 7)
	require.NoError(t, err)
	require.EqualValues(t, 7, last)
	require.Len(t, notices, 5)
	require.Equal(t, store.Notice{
		Kind: store.NoticeChanged, Owner: "own", Member: "m0", By: "own",
		Changes: []store.SharedChange{{Resource: policies.Resource{Type: policies.TypeGroup, ID: "g"}, Was: []string{"Role"}, Is: []string{"Role"}, Gains: true}},
	}, notices[0])
	for _, bounds := range [][2]int{{10, 100}, {100, 0}} {
		bounded := e.teller()
		bounded.Bound(bounds[0], bounds[1])
		notices, last, err = bounded.News(t.Context(), "own", 7)
		require.NoError(t, err)
		require.EqualValues(t, 7, last)
		require.Len(t, notices, 5)
		require.Empty(t, notices[0].Changes)
	}
	_, _, err = e.teller().News(t.Context(), "own", 8)
	require.ErrorContains(t, err, "revision 7")
}

// A role with 10,000 grants, each of which reaches 20 environments.
func BenchmarkNewsOfARole(b *testing.B) {
	e := newEdited(b, 10_000, 20)
	for b.Loop() {
		notices, _, err := e.teller().News(b.Context(), "own", 7)
		require.NoError(b, err)
		require.Len(b, notices, 10_000)
	}
}
