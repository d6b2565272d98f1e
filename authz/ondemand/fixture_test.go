package ondemand

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/ondemand/redisserver"
	"github.com/usher-authz/usher/policies"
)

// The fixture's platform: two owners, each with an environment and the member mia.
const (
	startEnv = "environment.control.StartEnv"
	firstID  = policies.Revision(1000)
)

// fixture is one engine over its own Redis and admin.
type fixture struct {
	admin   *testAdmin
	server  *redisserver.Server
	redis   *redis.Client
	clock   *testClock
	options Options
	engine  *Engine
	stop    func()
}

func fixtureDocuments(tb testing.TB) []policies.Document {
	tb.Helper()
	var docs []policies.Document
	for _, owner := range []string{"anna", "ben"} {
		d, err := policies.DecodeDocument([]byte(`{"account": {"id": "` + owner + `", "email": "` + owner + `@example.com"},
			"groups": [{"id": "g-` + owner + `", "name": "G", "parent": null}],
			"environments": [{"id": "e-` + owner + `", "name": "E", "groups": ["g-` + owner + `"]}, {"id": "f-` + owner + `", "name": "F", "groups": []}],
			"policies": [{"id": "own", "name": "Own", "resources": ["environment"], "actions": ["acme.Promote"]}],
			"roles": [{"id": "starter", "name": "Starter", "policies": ["environment.start"]}, {"id": "promoter", "name": "Promoter", "policies": ["own"]}],
			"members": [{"account": {"id": "mia", "email": "mia@example.com"}, "status": "active",
				"grants": [{"resource": {"type": "environment", "id": "e-` + owner + `"}, "roles": ["starter"]}]}]}`))
		require.NoError(tb, err)
		docs = append(docs, d)
	}
	return docs
}

func newFixture(tb testing.TB, change func(*Options)) *fixture {
	tb.Helper()
	f := &fixture{server: testRedis(tb), clock: newTestClock()}
	f.admin = newTestAdmin(tb, stateOf(tb, testPolicy(tb), firstID, fixtureDocuments(tb)))
	f.redis = testClient(tb, f.server)
	f.options = testOptions(tb, f.admin, f.server, f.clock)
	if change != nil {
		change(&f.options)
	}
	f.engine, f.stop = startEngine(tb, f.options)
	return f
}

// another runs one more engine like the fixture's.
func (f *fixture) another(tb testing.TB, change func(*Options)) *Engine {
	tb.Helper()
	o := f.options
	o.Registerer = nil
	if change != nil {
		change(&o)
	}
	e, _ := startEngine(tb, o)
	return e
}

// question is whether mia may start the environment.
func question(environment string) authz.Question {
	return authz.Question{SubjectType: "account", Subject: "mia", Action: startEnv, ResourceType: "environment", ResourceID: environment}
}

// ask checks e's answer to q against Rego over the whole state.
func (f *fixture) ask(tb testing.TB, e *Engine, q authz.Question) authz.Decision {
	tb.Helper()
	d := check(tb, e, q)
	requireTruth(tb, f.admin, f.clock.now(), q, d)
	return d
}

// grant gives mia roles on an environment; none takes the grant away.
func (f *fixture) grant(tb testing.TB, owner policies.AccountID, environment string, ends *time.Time, roles ...policies.RoleID) policies.Revision {
	tb.Helper()
	var member policies.CollaborationID
	account, _ := f.admin.state().Account(owner)
	for o, err := range account.Objects() {
		require.NoError(tb, err)
		if o.Kind == policies.KindMember {
			member = policies.CollaborationID(o.ID)
		}
	}
	key := policies.GrantKey{Member: member, Resource: policies.Resource{Type: policies.TypeEnvironment, ID: environment}}
	var body any
	if len(roles) > 0 {
		body = policies.GrantBody{Roles: roles, ExpiresAt: ends}
	}
	return f.admin.change(tb, object(tb, policies.KindGrant, owner, key.String(), body))
}

// reached waits until e answers from r.
func reached(tb testing.TB, e *Engine, r policies.Revision) {
	tb.Helper()
	eventually(tb, func() bool { return e.Revision() >= r })
}

// counted is how many look-ups in a layer ended so.
func counted(e *Engine, l layer, k kind, o outcome) int {
	return int(valueOf(e.metrics.lookups[l][k][o]))
}

// valueOf reads a counter or a gauge.
func valueOf(m prometheus.Metric) float64 {
	var read dto.Metric
	if err := m.Write(&read); err != nil {
		return -1
	}
	return read.GetCounter().GetValue() + read.GetGauge().GetValue()
}

// rejected is how many entries from Redis were.
func rejected(e *Engine) int {
	n := 0
	for k := range kinds {
		n += counted(e, layerRedis, kind(k), outcomeRejected)
	}
	return n
}

// keyNamed is where e has n in Redis.
func keyNamed(e *Engine, n name) string { return key(e.root.Load().generation.prefix, n) }

func miaOn(environment string) name {
	return permissionsOf("mia", policies.Resource{Type: policies.TypeEnvironment, ID: environment})
}

// roundTrips counts a client's.
type roundTrips struct{ single, pipelines int }

func (r *roundTrips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *roundTrips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, c redis.Cmder) error {
		if c.Name() == "getrange" {
			r.single++
		}
		return next(ctx, c)
	}
}

func (r *roundTrips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, c []redis.Cmder) error {
		if c[0].Name() == "getrange" {
			r.pipelines++
		}
		return next(ctx, c)
	}
}
