package authz

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
	"github.com/usher-authz/usher/rego"
)

// testClock is a wall clock that tests set.
type testClock struct{ at atomic.Int64 }

var testStart = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func newTestClock() *testClock {
	c := &testClock{}
	c.at.Store(testStart.UnixNano())
	return c
}

func (c *testClock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *testClock) advance(d time.Duration) { c.at.Add(int64(d)) }

func newTestEngine(tb testing.TB, o Options) *Engine {
	tb.Helper()
	e, err := New(o)
	require.NoError(tb, err)
	return e
}

// embeddedPolicy is the policy of this program, compiled.
func embeddedPolicy(tb testing.TB) *Policy {
	tb.Helper()
	catalogue, err := policies.EmbeddedCatalogue()
	require.NoError(tb, err)
	return newTestPolicy(tb, catalogue)
}

func newTestPolicy(tb testing.TB, c policies.Catalogue) *Policy {
	tb.Helper()
	source, err := policies.NewPolicyInForce(c, rego.Modules())
	require.NoError(tb, err)
	p, err := NewPolicy(context.Background(), source)
	require.NoError(tb, err)
	return p
}

// guardedPolicy is p with the guardrails of tests.
func guardedPolicy(tb testing.TB, p *Policy) *Policy {
	tb.Helper()
	source, err := p.Source().WithGuardrails(policiestest.Guardrails())
	require.NoError(tb, err)
	guarded, err := NewPolicy(context.Background(), source)
	require.NoError(tb, err)
	return guarded
}

// object is one object; a nil body deletes.
func object(tb testing.TB, kind policies.Kind, owner policies.AccountID, id string, body any) policies.Object {
	tb.Helper()
	o, err := policies.NewObject(kind, owner, id, body)
	require.NoError(tb, err)
	return o
}

// memberID is the collaboration's id that objectsOf makes for an email.
func memberID(owner policies.AccountID, email string) policies.CollaborationID {
	sum := sha256.Sum256([]byte(string(owner) + "/" + email))
	return policies.CollaborationID(hex.EncodeToString(sum[:8]))
}

// objectsOf are the objects of a platform after an import of the documents:
// accounts that are named as members exist too.
func objectsOf(tb testing.TB, p *Policy, docs []policies.Document) []policies.Object {
	tb.Helper()
	objects := []policies.Object{object(tb, policies.KindPolicyInForce, "", "policy_in_force", p.Source())}
	known := map[policies.AccountID]bool{}
	account := func(id policies.AccountID) {
		if !known[id] {
			known[id] = true
			objects = append(objects, object(tb, policies.KindAccount, "", string(id), policies.AccountBody{}))
		}
	}
	for _, d := range docs {
		owner := d.Account.ID
		account(owner)
		for _, g := range d.Groups {
			objects = append(objects, object(tb, policies.KindGroup, owner, string(g.ID), policies.GroupBody{Parent: g.Parent}))
		}
		for _, e := range d.Environments {
			objects = append(objects, object(tb, policies.KindEnvironment, owner, string(e.ID), policies.EnvironmentBody{Groups: e.Groups}))
		}
		for _, x := range d.Policies {
			body := policies.PolicyBody{Resources: x.Resources, Actions: x.Actions}
			objects = append(objects, object(tb, policies.KindPolicy, owner, string(x.ID), body))
		}
		for _, r := range d.Roles {
			body := policies.RoleBody{Name: r.Name, Policies: r.Policies, ReceiveLoadAlerts: r.ReceiveLoadAlerts}
			objects = append(objects, object(tb, policies.KindRole, owner, string(r.ID), body))
		}
		for _, m := range d.Members {
			if m.Account.ID != nil {
				account(*m.Account.ID)
			}
			id := memberID(owner, m.Account.Email)
			objects = append(objects, object(tb, policies.KindMember, owner, string(id), policies.MemberBody{Account: m.Account.ID, Status: m.Status}))
			for _, g := range m.Grants {
				key := policies.GrantKey{Member: id, Resource: g.Resource}
				objects = append(objects, object(tb, policies.KindGrant, owner, key.String(), policies.GrantBody{Roles: g.Roles, ExpiresAt: g.ExpiresAt}))
			}
		}
	}
	return objects
}

// buildState builds a state of objects at a revision, sharing p.
func buildState(tb testing.TB, p *Policy, h Header, objects []policies.Object) *State {
	tb.Helper()
	s, err := tryBuild(p, h, objects)
	require.NoError(tb, err)
	return s
}

func tryBuild(p *Policy, h Header, objects []policies.Object) (*State, error) {
	b := NewBuilder(h)
	b.Reuse(p)
	for _, o := range objects {
		if err := b.Add(o); err != nil {
			return nil, err
		}
	}
	return b.Build(context.Background())
}

// changeAfter is the change that comes after s with these objects.
func changeAfter(tb testing.TB, s *State, objects ...policies.Object) policies.Change {
	tb.Helper()
	return changeAt(tb, s, s.Revision()+1, objects...)
}

func changeAt(tb testing.TB, s *State, revision policies.Revision, objects ...policies.Object) policies.Change {
	tb.Helper()
	encoded, err := policies.EncodeObjects(objects)
	require.NoError(tb, err)
	c := policies.Change{Revision: revision, Time: testStart, Objects: encoded, AuditHash: sha256.Sum256([]byte("audit"))}
	c.Hash = policies.ChainHash(s.Hash(), c.Revision, sha256.Sum256(c.Objects), c.AuditHash)
	return c
}

func testHeader(r policies.Revision) Header {
	return Header{Platform: "test", Revision: r, Hash: sha256.Sum256([]byte("before"))}
}

func asQuestion(q policiestest.Question) Question {
	asked := Question{
		SubjectType: q.SubjectType, Subject: q.Subject, Action: q.Action,
		ResourceType: q.ResourceType, ResourceID: q.ResourceID,
	}
	if q.Context != "" || q.Properties != "" {
		asked.Request = &Request{Context: jsontext.Value(q.Context), ResourceProperties: jsontext.Value(q.Properties)}
	}
	return asked
}

// expected is the model's answer as the engine should give it.
func expected(a policiestest.Answer, r policies.Revision) Decision {
	return Decision{
		Allow: a.Decision, Reason: a.Reason, Level: a.Level, Roles: a.Roles, Policies: a.Policies,
		Owner: a.Owner, Revision: r, ValidUntil: a.ValidUntil, Guardrail: a.Guardrail, Observed: a.Observed,
	}
}
