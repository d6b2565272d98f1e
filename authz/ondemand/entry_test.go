package ondemand

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// testFacts is a fact of each kind that goes into Redis, and of each answer.
func testFacts(tb testing.TB, p *authz.Policy) []*fact {
	tb.Helper()
	s := stateOf(tb, p, firstID, fixtureDocuments(tb))
	var facts []*fact
	add := func(n name, exists bool, fill func(*fact)) {
		f := newFact(n, firstID-7, firstID)
		f.exists = exists
		fill(f)
		facts = append(facts, f)
	}
	none := func(*fact) {}
	for _, environment := range []string{"e-ben", "f-ben"} {
		r := policies.Resource{Type: policies.TypeEnvironment, ID: environment}
		for _, subject := range []policies.AccountID{"mia", "ben", "anna"} {
			effective, err := p.Effective(context.Background(), s, testTime, subject, r)
			require.NoError(tb, err)
			permissions, err := p.Compact(effective, testTime)
			require.NoError(tb, err)
			add(permissionsOf(subject, r), true, func(f *fact) { f.setPermissions(permissions) })
		}
		add(ownerOf(r), true, func(f *fact) { f.owner = "ben" })
	}
	add(ownerOf(policies.Resource{Type: policies.TypeGroup, ID: "none"}), false, none)
	add(subjectOf("mia"), true, none)
	add(subjectOf("none"), false, none)
	account, ok := s.Account("ben")
	require.True(tb, ok)
	add(accountOf("ben"), true, func(f *fact) { f.account = account })
	add(accountOf("none"), false, none)
	return facts
}

func accountObjects(tb testing.TB, a *authz.Account) []policies.Object {
	tb.Helper()
	if a == nil {
		return nil
	}
	var all []policies.Object
	for o, err := range a.Objects() {
		require.NoError(tb, err)
		all = append(all, o)
	}
	return all
}

func TestEntriesRoundTrip(t *testing.T) {
	t.Parallel()
	p := testPolicy(t)
	c, err := newCodec(testKeys)
	require.NoError(t, err)
	for _, f := range testFacts(t, p) {
		k := key("prefix", f.name)
		value, err := c.encode(k, f)
		require.NoError(t, err)
		got, err := c.decode(p, k, f.name, value)
		require.NoError(t, err, "%+v", f.name)
		require.Equal(t, []any{f.name, f.from, f.until(), f.exists, f.owner}, []any{got.name, got.from, got.until(), got.exists, got.owner})
		require.Equal(t, f.permissions, got.permissions)
		require.Empty(t, cmp.Diff(accountObjects(t, f.account), accountObjects(t, got.account)))
		if f.account != nil {
			require.Equal(t, f.from, got.account.Changed())
		}

		_, err = c.decode(p, k+"x", f.name, value)
		require.ErrorIs(t, err, errForged)
		for i := range value {
			flipped := bytes.Clone(value)
			flipped[i] ^= 1
			_, err = c.decode(p, k, f.name, flipped)
			require.ErrorIs(t, err, errForged)
		}
	}
}

func TestWhatIsTooLargeStaysOut(t *testing.T) {
	t.Parallel()
	p := testPolicy(t)
	c, err := newCodec(testKeys)
	require.NoError(t, err)
	f := newFact(ownerOf(policies.Resource{Type: policies.TypeGroup, ID: "g"}), 1, 1)
	f.exists, f.owner = true, policies.AccountID(strings.Repeat("x", maxSmallValue))
	_, err = c.encode("k", f)
	require.ErrorIs(t, err, errTooLarge)
	_, err = c.decode(p, "k", f.name, make([]byte, maxSmallValue+1))
	require.ErrorIs(t, err, errTooLarge)
}

// FuzzDecode reads values as if they were authentic: a later version may sign what
// this one does not know.
func FuzzDecode(f *testing.F) {
	p := testPolicy(f)
	c, err := newCodec(testKeys)
	if err != nil {
		f.Fatal(err)
	}
	names := []name{}
	for _, fact := range testFacts(f, p) {
		value, err := c.encode("k", fact)
		if err != nil {
			f.Fatal(err)
		}
		names = append(names, fact.name)
		f.Add(uint8(len(names)-1), value[macSize:])
	}
	f.Add(uint8(0), []byte{0xff})
	f.Fuzz(func(t *testing.T, which uint8, value []byte) {
		n := names[int(which)%len(names)]
		got, err := c.decodeValue(p, n, value)
		if err != nil {
			return
		}
		require.LessOrEqual(t, got.from, got.until())
		// What was read can be written, and reads the same.
		again, err := c.encode("k", got)
		if err != nil {
			require.ErrorIs(t, err, errTooLarge)
			return
		}
		twice, err := c.decode(p, "k", n, again)
		require.NoError(t, err)
		require.Equal(t, got.exists, twice.exists)
		require.Equal(t, got.permissions, twice.permissions)
		if got.permissions != nil {
			got.permissions.Decide(catalogueView{&root{generation: &generation{policy: p}}}, &authz.Question{Action: startEnv})
		}
	})
}

func TestKeysAreDistinct(t *testing.T) {
	t.Parallel()
	digest := policies.Hash{1}
	seen := map[string]bool{}
	for _, prefix := range []string{
		keyPrefix("a", 0, digest), keyPrefix("a", 1, digest), keyPrefix("b", 0, digest), keyPrefix("a", 0, policies.Hash{2}),
		keyPrefix("a/0", 0, digest), keyPrefix("a%2F0", 0, digest), keyPrefix("", 0, digest),
	} {
		for _, n := range []name{
			permissionsOf("s", policies.Resource{Type: policies.TypeGroup, ID: "i"}),
			permissionsOf("s", policies.Resource{Type: policies.TypeGroups, ID: "i"}),
			permissionsOf("i", policies.Resource{Type: policies.TypeGroup, ID: "s"}),
			ownerOf(policies.Resource{Type: policies.TypeGroup, ID: "i"}),
			ownerOf(policies.Resource{Type: policies.TypeEnvironment, ID: "i"}),
			subjectOf("i"), accountOf("i"), accountOf("s"),
		} {
			k := key(prefix, n)
			require.False(t, seen[k], k)
			seen[k] = true
		}
	}
	// A category's owner is the account itself: no entry of its own.
	require.Equal(t, subjectOf("i"), ownerOf(policies.Resource{Type: policies.TypeAccount, ID: "i"}))
}

func TestRedisKeyFile(t *testing.T) {
	t.Parallel()
	one, two := NewRedisKey(), NewRedisKey()
	keys, err := ParseRedisKeys([]byte("# the present one\n" + one + "\n\n  " + two + "  \r\n"))
	require.NoError(t, err)
	require.Len(t, keys, 2)
	require.Equal(t, one, base64.StdEncoding.EncodeToString(keys[0]))

	for file, reason := range map[string]string{
		"":                            "not 0",
		one + "\n" + two + "\n" + one: "not 3",
		one + "\nnot base64!":         "line 2 ",
		"c2hvcnQ=":                    "key 1 for Redis has 5 bytes",
	} {
		_, err := ParseRedisKeys([]byte(file))
		require.ErrorContains(t, err, reason)
		require.NotContains(t, err.Error(), "c2hvcnQ")
	}
}
