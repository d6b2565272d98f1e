package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// BenchmarkChecksDuringChanges is the p99 and p99.9 of cached checks by one goroutine
// while another applies changes to the same engine, beside those of the same checks
// before: ten a second, what a platform is measured with, and a hundred times as many.
// They are of members that nobody asks about.
func BenchmarkChecksDuringChanges(b *testing.B) {
	const owners, during = 2000, 2 * time.Second
	p, state := generated(b, owners)
	questions := p.questions(hotQuestions)
	for _, rate := range []int{10, 1000} {
		b.Run(fmt.Sprintf("changes=%d/s", rate), func(b *testing.B) {
			engine, err := authz.New(authz.Options{})
			require.NoError(b, err)
			require.NoError(b, engine.Reset(state))
			var first, quiet, busy latencies
			first.checks(b, engine, questions, time.After(time.Second)) // not cached yet
			quiet.checks(b, engine, questions, time.After(during))
			for b.Loop() {
				end := make(chan time.Time)
				var work sync.WaitGroup
				work.Go(func() { busy.checks(b, engine, questions, end) })
				due := time.NewTicker(time.Second / time.Duration(rate))
				for n := range int(during.Seconds()) * rate {
					<-due.C
					require.NoError(b, engine.Apply(context.Background(), regrant(b, engine.State(), p, n*37%owners)))
				}
				due.Stop()
				close(end)
				work.Wait()
			}
			for _, q := range []float64{0.99, 0.999} {
				b.ReportMetric(float64(quiet.quantile(q)), fmt.Sprintf("p%g-ns", 100*q))
				b.ReportMetric(float64(busy.quantile(q))/float64(quiet.quantile(q)), fmt.Sprintf("×p%g", 100*q))
			}
		})
	}
}

// regrant is the change after state that gives the last member of owner n once more what
// it has.
func regrant(b *testing.B, state *authz.State, p *platform, n int) policies.Change {
	b.Helper()
	d := p.document(n, p.owners)
	account := []byte(`"` + string(*d.Members[membersEach-1].Account.ID) + `"`)
	var member []byte
	for o, err := range state.AccountObjects(d.Account.ID) {
		require.NoError(b, err)
		if o.Kind == policies.KindMember && bytes.Contains(o.Body, account) {
			member = append([]byte(o.ID), '/')
		}
		if o.Kind != policies.KindGrant || member == nil || !bytes.HasPrefix([]byte(o.ID), member) {
			continue
		}
		objects, err := policies.EncodeObjects([]policies.Object{o})
		require.NoError(b, err)
		c := policies.Change{Revision: state.Revision() + 1, Time: time.Now(), Objects: objects}
		c.Hash = policies.ChainHash(state.Hash(), c.Revision, sha256.Sum256(c.Objects), c.AuditHash)
		return c
	}
	require.Fail(b, "the last member has no grant")
	return policies.Change{}
}
