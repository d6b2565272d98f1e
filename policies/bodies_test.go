package policies_test

import (
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/policies"
)

// Bodies are written by hand as the library writes them, and read by hand as it reads
// them, whatever stands there.
func TestBodiesAreAsTheLibraryHasThem(t *testing.T) {
	t.Parallel()
	// Types without methods, which the library writes.
	type (
		group       policies.GroupBody
		environment policies.EnvironmentBody
		role        policies.RoleBody
		member      policies.MemberBody
		grant       policies.GrantBody
	)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.SampledFrom([]rune(`a-"\/<&,{}[]ö€😀`+"\t\x00\x7f\u2028")), 0, 5, -1)
		list := func() []string { return rapid.SliceOfN(text, 0, 3).Draw(t, "texts") }
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			body := policies.GroupBody{Parent: rapid.Ptr(of[policies.GroupID](text), true).Draw(t, "parent")}
			same(t, body, group(body), policies.ReadGroupBody)
		case 1:
			body := policies.EnvironmentBody{Groups: ids[policies.GroupID](list())}
			same(t, body, environment(body), policies.ReadEnvironmentBody)
		case 2:
			body := policies.RoleBody{
				Name: text.Draw(t, "name"), Policies: ids[policies.PolicyID](list()), ReceiveLoadAlerts: rapid.Bool().Draw(t, "alerts"),
			}
			same(t, body, role(body), policies.ReadRoleBody)
		case 3:
			body := policies.MemberBody{
				Account: rapid.Ptr(of[policies.AccountID](text), true).Draw(t, "account"), Status: of[policies.Status](text).Draw(t, "status"),
			}
			same(t, body, member(body), policies.ReadMemberBody)
		case 4:
			body := policies.GrantBody{Roles: ids[policies.RoleID](list())}
			if rapid.Bool().Draw(t, "ends") {
				body.ExpiresAt = new(time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "end"), 1000).UTC())
			}
			same(t, body, grant(body), policies.ReadGrantBody)
		}
	})
}

func of[T ~string](text *rapid.Generator[string]) *rapid.Generator[T] {
	return rapid.Map(text, func(s string) T { return T(s) })
}

func ids[T ~string](texts []string) []T {
	var made []T // none at all, too
	for _, text := range texts {
		made = append(made, T(text))
	}
	return made
}

// same holds what is written of body against what is written of general, which is the
// same without methods, and reads that, whole and damaged.
func same[T any](t *rapid.T, body T, general any, read func(string) (T, error)) {
	want, err := policies.CanonicalJSON(general)
	require.NoError(t, err)
	got, err := policies.CanonicalJSON(body)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
	for range 10 {
		var wanted T
		wantErr := json.Unmarshal(want, &wanted)
		have, err := read(string(want))
		if wantErr != nil {
			require.Error(t, err, "%s", want)
		} else {
			require.NoError(t, err, "%s", want)
			require.Equal(t, wanted, have, "%s", want)
		}
		want = slices.Clone(want)
		at := rapid.IntRange(0, len(want)-1).Draw(t, "at")
		switch rapid.IntRange(0, 2).Draw(t, "damage") {
		case 0:
			want[at] = rapid.SampledFrom([]byte(`"{}[],:a n\`+"\xff\n")).Draw(t, "byte")
		case 1:
			want = slices.Delete(want, at, at+1)
		case 2:
			want = slices.Insert(want, at, rapid.SampledFrom([]byte(`"{}[],:a n\`+"\xff\n")).Draw(t, "byte"))
		}
		if len(want) == 0 {
			return
		}
	}
}

// What is no text is no body.
func TestABodyIsText(t *testing.T) {
	t.Parallel()
	for _, body := range []any{
		policies.GroupBody{Parent: new(policies.GroupID("\xff"))},
		policies.EnvironmentBody{Groups: []policies.GroupID{"\xff"}},
		policies.RoleBody{Name: "\xff"},
		policies.RoleBody{Policies: []policies.PolicyID{"\xff"}},
		policies.MemberBody{Account: new(policies.AccountID("\xff"))},
		policies.MemberBody{Status: "\xff"},
		policies.GrantBody{Roles: []policies.RoleID{"\xff"}},
		policies.GrantBody{ExpiresAt: new(time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC))},
	} {
		_, err := policies.CanonicalJSON(body)
		require.Error(t, err, "%v", body)
	}
}
