package policies_test

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"runtime"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
	"github.com/usher-authz/usher/rego"
)

// standardPlatform is the one of architecture.md, How fast: each owner has 20
// environments in 5 nested groups, 5 roles, and 10 members with 5 grants each. It
// makes the data of an account when asked, as a state does.
type standardPlatform struct {
	policies.PlatformData
	owners int
}

func newStandardPlatform(tb testing.TB, owners int) standardPlatform {
	tb.Helper()
	return standardPlatform{platformOf(tb), owners}
}

// Subjects implements policies.PlatformData.
func (p standardPlatform) Subjects() iter.Seq[policies.AccountID] {
	return func(yield func(policies.AccountID) bool) {
		for i := range p.owners {
			if !yield(policies.AccountID(fmt.Sprintf("account-%06d", i))) {
				return
			}
		}
	}
}

// Accounts implements policies.PlatformData.
func (p standardPlatform) Accounts() iter.Seq2[policies.AccountID, *policies.AccountData] {
	return func(yield func(policies.AccountID, *policies.AccountData) bool) {
		for i := range p.owners {
			if !yield(policies.AccountID(fmt.Sprintf("account-%06d", i)), p.account(i)) {
				return
			}
		}
	}
}

func (p standardPlatform) account(n int) *policies.AccountData {
	id := func(kind string, i int) string { return fmt.Sprintf("%s-%06d-%02d", kind, n, i) }
	d := &policies.AccountData{
		Groups:       map[policies.GroupID]policies.GroupData{},
		Environments: map[policies.EnvironmentID]policies.EnvironmentData{},
		Roles:        map[policies.RoleID]policies.RoleData{},
		Members:      map[policies.AccountID]policies.MemberData{},
	}
	ancestors := []policies.GroupID{}
	for i := range 5 {
		g := policies.GroupID(id("group", i))
		d.Groups[g] = policies.GroupData{Ancestors: ancestors}
		ancestors = append([]policies.GroupID{g}, ancestors...)
	}
	for i := range 20 {
		d.Environments[policies.EnvironmentID(id("env", i))] = policies.EnvironmentData{Groups: []policies.GroupID{policies.GroupID(id("group", i%5))}}
	}
	system := p.Policy().Catalogue.Roles
	for i := range 5 {
		d.Roles[policies.RoleID(id("role", i))] = policies.RoleData{Name: system[i].Name, Policies: system[i].Policies}
	}
	end := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 10 {
		m := policies.MemberData{
			ID: policies.CollaborationID(id("member", i)), Status: policies.StatusActive,
			Grants: map[policies.ResourceType]map[string]policies.GrantData{"environment": {}, "group": {}, "environments": {}},
		}
		role := func(j int) []policies.RoleID { return []policies.RoleID{policies.RoleID(id("role", j%5))} }
		m.Grants["environment"][id("env", i)] = policies.NewGrantData(role(i), nil)
		m.Grants["environment"][id("env", i+10)] = policies.NewGrantData(role(i), &end)
		m.Grants["group"][id("group", i%5)] = policies.NewGrantData(role(i+1), nil)
		m.Grants["group"][id("group", (i+1)%5)] = policies.NewGrantData(role(i+2), nil)
		m.Grants["environments"][fmt.Sprintf("account-%06d", n)] = policies.NewGrantData(role(i+3), nil)
		d.Members[policies.AccountID(fmt.Sprintf("account-%06d", (n+1+i)%p.owners))] = m
	}
	return d
}

// BenchmarkWriteBundle: signed; the floor is the same data as JSON, written to nowhere.
func BenchmarkWriteBundle(b *testing.B) {
	for _, owners := range []int{20, 1000, 20_000} {
		b.Run(fmt.Sprintf("grants=%d", owners*50), func(b *testing.B) {
			p := newStandardPlatform(b, owners)
			begin := time.Now()
			for _, d := range p.Accounts() {
				require.NoError(b, json.MarshalWrite(io.Discard, d, json.Deterministic(true)))
			}
			floor := time.Since(begin)
			key, err := signing.Generate()
			require.NoError(b, err)
			var size counter
			b.ReportAllocs()
			for b.Loop() {
				size = 0
				require.NoError(b, policies.WriteSignedBundle(&size, p, key))
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/floor.Seconds(), "×floor")
			b.ReportMetric(float64(size), "bytes")
		})
	}
}

type counter int64

// Write counts.
func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// BenchmarkReadBundle: what a bundle costs in memory once it is read.
func BenchmarkReadBundle(b *testing.B) {
	for _, owners := range []int{20, 1000, 20_000} {
		b.Run(fmt.Sprintf("grants=%d", owners*50), func(b *testing.B) {
			var archive bytes.Buffer
			require.NoError(b, policies.WriteBundle(&archive, newStandardPlatform(b, owners)))
			require.Len(b, rego.Modules(), len(newStandardPlatform(b, 1).Policy().Modules))
			before := liveHeap()
			var contents *policies.BundleContents
			for b.Loop() {
				var err error
				contents, err = policies.ReadBundle(bytes.NewReader(archive.Bytes()))
				require.NoError(b, err)
			}
			b.ReportMetric(float64(liveHeap()-before)/float64(owners*50), "bytes/grant")
			runtime.KeepAlive(contents)
		})
	}
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
