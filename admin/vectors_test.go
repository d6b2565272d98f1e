package admin_test

import (
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// TestVectors imports every world of the vectors, asks every check of it, and
// exports it again.
func TestVectors(t *testing.T) {
	t.Parallel()
	vectors, err := policiestest.Vectors()
	require.NoError(t, err)
	p := start(t)
	var imported []policies.AccountID
	for _, v := range vectors {
		for _, id := range imported {
			p.do("DELETE", "/v1/accounts/"+string(id), nil).want(204)
		}
		imported = []policies.AccountID{v.Document.Account.ID}
		for _, member := range v.Document.Members {
			if member.Account.ID != nil {
				imported = append(imported, *member.Account.ID)
			}
		}
		a := p.do("POST", "/v1/import", []byte(v.Import)).want(200)
		require.Zero(t, a.len("errors"), "%s: %s", v.Name, a.body)
		for _, c := range v.Checks {
			got := p.check(string(c.Subject), string(c.Action), string(c.Resource.Type), c.Resource.ID, a.revision())
			var answer struct {
				Decision bool `json:"decision"`
				Context  struct {
					Reason   policies.Reason     `json:"reason"`
					Level    policies.Level      `json:"level"`
					Roles    []string            `json:"roles"`
					Policies []policies.PolicyID `json:"policies"`
				} `json:"context"`
			}
			require.NoError(t, json.Unmarshal(got.body, &answer))
			want := answer
			want.Decision, want.Context.Reason, want.Context.Level = c.Decision, c.Reason, c.Level
			want.Context.Roles, want.Context.Policies = c.Roles, c.Policies
			if diff := cmp.Diff(want, answer, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: %s %s %s: %s", v.Name, c.Subject, c.Action, c.Resource, diff)
			}
		}
		exported := p.do("GET", "/v1/accounts/"+string(v.Document.Account.ID)+"/export", nil).want(200)
		document, err := policies.DecodeDocument(exported.body)
		require.NoError(t, err, v.Name)
		if diff := cmp.Diff(v.Document.Normalize(), document.Normalize(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s does not come back as it went in: %s", v.Name, diff)
		}
		again := p.do("POST", "/v1/import", exported.body).want(200)
		require.Equal(t, a.revision(), again.revision(), "%s: its export changes nothing", v.Name)
	}
}
