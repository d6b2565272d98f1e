package feed

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/feed/feedtest"
	"github.com/usher-authz/usher/policies"
)

// standard is the standard platform of architecture.md, How fast: per owner 20
// environments in 5 nested groups, 10 members, 50 grants and 5 roles.
func standard(tb testing.TB, owners int) []policies.Object {
	tb.Helper()
	var all []policies.Object
	add := func(kind policies.Kind, owner policies.AccountID, id string, body any) {
		all = append(all, feedtest.Object(tb, kind, owner, id, body))
	}
	account := func(i int) policies.AccountID { return policies.AccountID(fmt.Sprintf("account-%06d", i%owners)) }
	for i := range owners {
		add(policies.KindAccount, "", string(account(i)), policies.AccountBody{})
	}
	for i := range owners {
		owner := account(i)
		var above *policies.GroupID
		groups := make([]policies.GroupID, 5)
		for g := range groups {
			groups[g] = policies.GroupID(fmt.Sprintf("group-%06d-%d", i, g))
			add(policies.KindGroup, owner, string(groups[g]), policies.GroupBody{Parent: above})
			above = &groups[g]
		}
		for e := range 20 {
			add(policies.KindEnvironment, owner, fmt.Sprintf("env-%06d-%02d", i, e), policies.EnvironmentBody{Groups: groups[e%5 : e%5+1]})
		}
		for r := range 5 {
			add(policies.KindRole, owner, fmt.Sprintf("role-%d", r), policies.RoleBody{Name: fmt.Sprintf("Role %d", r), Policies: []policies.PolicyID{"environment.start"}})
		}
		for m := range 10 {
			member, id := account(i+m+1), fmt.Sprintf("member-%06d-%d", i, m)
			add(policies.KindMember, owner, id, policies.MemberBody{Account: &member, Status: policies.StatusActive})
			for g := range 5 {
				key := policies.GrantKey{Member: policies.CollaborationID(id), Resource: policies.Resource{Type: policies.TypeEnvironment, ID: fmt.Sprintf("env-%06d-%02d", i, (4*m+g)%20)}}
				add(policies.KindGrant, owner, key.String(), policies.GrantBody{Roles: []policies.RoleID{policies.RoleID(fmt.Sprintf("role-%d", g))}})
			}
		}
	}
	return all
}

const benchOwners = 1000

// cpu is what this process has used so far, both ends together: unlike wall time it
// can be compared on a machine that does other things too.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var use syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &use))
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// benchReplica serves p without logging, with the defaults of production.
func benchReplica(b *testing.B, p *feedtest.Platform) *replica {
	b.Helper()
	return newReplica(b, p, func(o *Options) { o.Heartbeat, o.Logger = time.Second, slog.New(slog.DiscardHandler) })
}

func follow(b *testing.B, engine *authz.Engine, r *replica, to policies.Revision) {
	b.Helper()
	s := runSidecar(b, engine, r.http.URL, func(o *wire.Options) { o.Logger = nil })
	require.NoError(b, engine.WaitFor(testContext(b), to))
	s.stop()
}

func newEngine(b *testing.B, s *authz.State) *authz.Engine {
	b.Helper()
	engine, err := authz.New(authz.Options{})
	require.NoError(b, err)
	if s != nil {
		require.NoError(b, engine.Reset(s))
	}
	return engine
}

// BenchmarkSnapshot is a new sidecar over loopback. Its floor is the same state
// built from the same objects without a wire.
func BenchmarkSnapshot(b *testing.B) {
	p := feedtest.New(b, "p", standard(b, benchOwners)...)
	r := benchReplica(b, p)
	state := p.State()
	objects := float64(len(feedtest.Objects(b, state)))
	begun := cpu(b)
	builder := authz.NewBuilder(state.Header())
	for o, err := range state.Objects() {
		require.NoError(b, err)
		require.NoError(b, builder.Add(o))
	}
	_, err := builder.Build(b.Context())
	require.NoError(b, err)
	floor := cpu(b) - begun

	before := value(b, r.server.metrics.bytes)
	begun = cpu(b)
	b.ReportAllocs()
	for b.Loop() {
		engine := newEngine(b, nil)
		follow(b, engine, r, state.Revision())
		require.Equal(b, state.Header(), engine.State().Header())
	}
	each, used := b.Elapsed()/time.Duration(b.N), (cpu(b)-begun)/time.Duration(b.N)
	b.ReportMetric(objects/each.Seconds(), "objects/s")
	b.ReportMetric(objects, "objects")
	b.ReportMetric(float64(value(b, r.server.metrics.bytes)-before)/float64(b.N)/1e6, "MB")
	b.ReportMetric(used.Seconds()*1e6/objects, "cpu-µs/object")
	b.ReportMetric(used.Seconds()/floor.Seconds(), "x-floor-cpu")
}

// BenchmarkChanges is a sidecar that catches up on 5,000 changes of one grant each.
// Its floor is the same changes applied without a wire.
func BenchmarkChanges(b *testing.B) {
	const changes = 5000
	p := feedtest.New(b, "p", standard(b, benchOwners)...)
	first := p.State()
	for i := range changes {
		owner := policies.AccountID(fmt.Sprintf("account-%06d", i%benchOwners))
		key := policies.GrantKey{
			Member:   policies.CollaborationID(fmt.Sprintf("member-%06d-%d", i%benchOwners, i%10)),
			Resource: policies.Resource{Type: policies.TypeEnvironments, ID: string(owner)},
		}
		body := policies.GrantBody{Roles: []policies.RoleID{policies.RoleID(fmt.Sprintf("role-%d", i/benchOwners))}}
		p.Write(feedtest.Object(b, policies.KindGrant, owner, key.String(), body))
	}
	r := benchReplica(b, p)
	engine := newEngine(b, first)
	begun := cpu(b)
	for _, c := range p.Log()[1:] {
		require.NoError(b, engine.Apply(b.Context(), c))
	}
	floor := cpu(b) - begun

	before := value(b, r.server.metrics.bytes)
	begun = cpu(b)
	b.ReportAllocs()
	for b.Loop() {
		engine := newEngine(b, first)
		follow(b, engine, r, p.State().Revision())
		require.Equal(b, p.State().Header(), engine.State().Header())
	}
	each, used := b.Elapsed()/time.Duration(b.N), (cpu(b)-begun)/time.Duration(b.N)
	b.ReportMetric(changes/each.Seconds(), "changes/s")
	b.ReportMetric(float64(value(b, r.server.metrics.bytes)-before)/float64(b.N)/changes, "B/change")
	b.ReportMetric(used.Seconds()*1e6/changes, "cpu-µs/change")
	b.ReportMetric(used.Seconds()/floor.Seconds(), "x-floor-cpu")
}

// BenchmarkLatency is the time from a change in the log to its effect in a sidecar,
// one change at a time. Its floor is a write that only the engine beside it applies.
func BenchmarkLatency(b *testing.B) {
	for _, sidecars := range []int{1, 8} {
		b.Run(fmt.Sprintf("sidecars=%d", sidecars), func(b *testing.B) {
			p := feedtest.New(b, "p", feedtest.Account(b, "a"))
			r := benchReplica(b, p)
			all := make([]*sidecar, sidecars)
			for i := range all {
				all[i] = runSidecar(b, newEngine(b, nil), r.http.URL, func(o *wire.Options) { o.Logger = nil })
				require.NoError(b, all[i].WaitFor(testContext(b), 1))
			}
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			i := 0
			for b.Loop() {
				c := p.Write(feedtest.Environment(b, "a", fmt.Sprintf("e%d", i%100)))
				i++
				for _, s := range all {
					require.NoError(b, s.WaitFor(ctx, c.Revision))
				}
			}
		})
	}
}
