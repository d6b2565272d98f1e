package authz

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest/rapiddice"
)

// The compact form loses nothing, in memory and in binary.
func TestPermissionsRoundTrip(t *testing.T) {
	t.Parallel()
	p := embeddedPolicy(t)
	// Another process has the same policy in force, and nothing decoded yet.
	other, err := NewPolicy(t.Context(), *p.Source())
	require.NoError(t, err)
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t, rapiddice.New(rt), p)
		s := buildState(t, p, testHeader(1), m.objects())
		questions := m.questions()
		for _, q := range questions[:min(1, len(questions))] {
			at := m.clock.now()
			want, err := p.Effective(context.Background(), s, at, policies.AccountID(q.Subject), policies.Resource{Type: policies.ResourceType(q.ResourceType), ID: q.ResourceID})
			require.NoError(t, err)
			compact, err := p.Compact(want, at)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(want, compact.Effective()))
			encoded := compact.AppendBinary(nil)
			known, err := p.DecodePermissions(encoded)
			require.NoError(t, err)
			require.Same(t, compact.common, known.common)
			require.Equal(t, compact, known)
			again, err := other.DecodePermissions(encoded)
			require.NoError(t, err)
			require.Equal(t, encoded, again.AppendBinary(nil))
			require.Empty(t, cmp.Diff(want, again.Effective()))
			require.Equal(t, compact.freshAt(at.UnixNano()), again.freshAt(at.UnixNano()))
			require.Equal(t, compact.ends, again.ends)
			require.Equal(t, compact.Owner(), again.Owner())
			asked := asQuestion(q)
			require.Equal(t, compact.Decide(s, &asked), again.Decide(s, &asked))
			require.Positive(t, again.Size())
			for cut := range encoded {
				_, err := p.DecodePermissions(encoded[:cut])
				require.Error(t, err)
			}
		}
	})
}

// Whatever bytes come back from a cache outside: an error, or permissions that
// answer without a fault.
func FuzzDecodePermissions(f *testing.F) {
	p := embeddedPolicy(f)
	e := companyEngine(f, Options{}, nil)
	for _, subject := range []policies.AccountID{"mia", "max", "owner", "nobody"} {
		found, err := p.Effective(context.Background(), e.State(), testStart, subject, environmentApp)
		require.NoError(f, err)
		compact, err := p.Compact(found, testStart)
		require.NoError(f, err)
		f.Add(compact.AppendBinary(nil))
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		got, err := p.DecodePermissions(data)
		if err != nil {
			return
		}
		for _, action := range []string{actionView, actionStart, "x", ""} {
			q := mayOn("mia", action, "app")
			got.Decide(e.State(), &q)
		}
		got.Effective()
		got.Size()
	})
}
