package policies_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
	"github.com/usher-authz/usher/policies/policiestest/rapiddice"
)

const account = `"account": {"id": "owner", "email": "owner@example.com", "display_name": "Owner"}`

// document is a document with these parts beside its account.
func document(parts ...string) string {
	return "{" + strings.Join(append([]string{account}, parts...), ", ") + "}"
}

func index(tb testing.TB) policies.CatalogueIndex {
	tb.Helper()
	c, err := policies.EmbeddedCatalogue()
	require.NoError(tb, err)
	return c.Index()
}

func TestDecodeDocumentFillsInDefaults(t *testing.T) {
	t.Parallel()
	got, err := policies.DecodeDocument([]byte(document(
		`"groups": [{"id": "b", "name": " B ", "parent": "a"}, {"id": "a", "name": "e\u0301"}]`,
		`"environments": [{"id": "e", "name": "E"}, {"id": "d", "name": "D", "groups": ["b", "a", "b"]}]`,
		`"policies": [{"id": "p", "name": "P", "resources": ["group", "environment"], "actions": []}]`,
		`"roles": [{"id": "r", "name": "Rolle", "policies": ["p", "environment.view"]}, {"id": "Rest", "name": "x", "policies": []}]`,
		`"members": [{"account": {"id": null, "email": "z@example.com"}}, {"account": {"id": "mia", "email": "mia@example.com"},
			"grants": [{"resource": {"type": "group", "id": "a"}, "roles": ["ROLLE", "r", "Rest"], "expires_at": "2030-01-01T02:00:00.0000019+02:00"},
			           {"resource": {"type": "environment", "id": "e"}, "roles": ["x"], "expires_at": null}]}]`,
	)), policies.WithCatalogue(index(t)))
	require.NoError(t, err)
	a, mia := policies.GroupID("a"), policies.AccountID("mia")
	end := time.Date(2030, 1, 1, 0, 0, 0, 1000, time.UTC)
	require.Empty(t, cmp.Diff(policies.Document{
		Account: policies.Account{ID: "owner", Email: "owner@example.com", DisplayName: "Owner"},
		Groups: []policies.Group{
			{ID: "a", Name: "é", Color: "#808080"},
			{ID: "b", Name: "B", Parent: &a, Color: "#808080"},
		},
		Environments: []policies.Environment{
			{ID: "d", Name: "D", Groups: []policies.GroupID{"a", "b"}},
			{ID: "e", Name: "E", Groups: []policies.GroupID{}},
		},
		Policies: []policies.Policy{{ID: "p", Name: "P", Resources: []policies.ResourceType{"environment", "group"}, Actions: []policies.ActionName{}}},
		Roles: []policies.Role{
			{ID: "Rest", Name: "x", Policies: []policies.PolicyID{}},
			{ID: "r", Name: "Rolle", Policies: []policies.PolicyID{"environment.view", "p"}},
		},
		Members: []policies.DocumentMember{
			{Account: policies.DocumentAccount{ID: &mia, Email: "mia@example.com"}, Status: policies.StatusActive, Grants: []policies.Grant{
				{Resource: policies.Resource{Type: "environment", ID: "e"}, Roles: []policies.RoleID{"Rest"}},
				{Resource: policies.Resource{Type: "group", ID: "a"}, Roles: []policies.RoleID{"Rest", "r"}, ExpiresAt: &end},
			}},
			{Account: policies.DocumentAccount{Email: "z@example.com"}, Status: policies.StatusActive, Grants: []policies.Grant{}},
		},
	}, got))
}

// TestDecodeDocumentReportsEveryError: the fields, all of them and no others.
func TestDecodeDocumentReportsEveryError(t *testing.T) {
	t.Parallel()
	const role = `"roles": [{"id": "r", "name": "R", "policies": []}]`
	member := func(rest string) string {
		return `"members": [{"account": {"id": "mia", "email": "mia@example.com"}, ` + rest + `}]`
	}
	grants := func(list ...string) string { return member(`"grants": [` + strings.Join(list, ",") + `]`) }
	for _, test := range []struct {
		name   string
		doc    string
		errors map[string]string // field → what the reason contains
	}{
		{"nothing there", `{}`, map[string]string{"account": "is required"}},
		{"nothing in there", `{"account": {}, "groups": [{}], "environments": [{}], "policies": [{}], "roles": [{}], "members": [{}, {"account": {}, "grants": [{}, {"resource": {}}]}]}`, map[string]string{
			"account.id": "is required", "account.email": "is required",
			"groups[0].id": "is required", "groups[0].name": "is required",
			"environments[0].id": "is required", "environments[0].name": "is required",
			"policies[0].id": "is required", "policies[0].name": "is required", "policies[0].resources": "is required", "policies[0].actions": "is required",
			"roles[0].id": "is required", "roles[0].name": "is required", "roles[0].policies": "is required",
			"members[0].account": "is required", "members[1].account.id": "or null", "members[1].account.email": "is required",
			"members[1].grants[0].resource": "is required", "members[1].grants[0].roles": "is required",
			"members[1].grants[1].resource.type": "is required", "members[1].grants[1].resource.id": "is required", "members[1].grants[1].roles": "is required",
		}},
		{"account", `{"account": {"id": "a b", "email": "x", "display_name": "\u0007"}}`, map[string]string{
			"account.id": "must be 1 to 128", "account.email": "email address", "account.display_name": "control characters",
		}},
		{"groups", document(`"groups": [{"id": "a", "name": "A", "parent": "nowhere"}, {"id": "a", "name": "A", "color": "red"},
			{"id": "x", "name": "x", "parent": "y"}, {"id": "y", "name": "y", "parent": "x"}, {"id": "z", "name": "z", "parent": "z"}, {"id": "k", "name": "k", "parent": "x"},
			{"id": "s1", "name": "Prod"}, {"id": "s2", "name": "PROD"}, {"id": "s3", "name": "prod", "parent": "s1"}]`), map[string]string{
			"groups[0].parent": "is not a group of this document", "groups[1].id": "stands twice", "groups[1].color": "#rrggbb",
			"groups[2].parent": "cycle", "groups[3].parent": "cycle", "groups[4].parent": "itself", "groups[5].parent": "cycle",
			"groups[7].name": "sibling",
		}},
		{"environments", document(`"environments": [{"id": "e", "name": "", "groups": ["nowhere", "/"]}, {"id": "e", "name": "e"}]`), map[string]string{
			"environments[0].name": "must not be empty", "environments[0].groups[0]": "is not a group", "environments[0].groups[1]": "must be 1 to 128",
			"environments[1].id": "stands twice",
		}},
		{"policies", document(`"policies": [{"id": "environment.view", "name": "P", "resources": ["planet"], "actions": ["a b"]}, {"id": "p", "name": "P", "resources": [], "actions": []}, {"id": "p", "name": "P", "resources": [], "actions": []}]`), map[string]string{
			"policies[0].id": "reserved", "policies[0].resources[0]": "must be one of", "policies[0].actions[0]": "action name", "policies[2].id": "stands twice",
		}},
		{"roles", document(`"roles": [{"id": "a", "name": "b", "policies": ["nothing.known"]}, {"id": "b", "name": "c", "policies": []}, {"id": "d", "name": "C", "policies": []}, {"id": "d", "name": "d", "policies": []}]`), map[string]string{
			"roles[0].name": "another role's id", "roles[0].policies[0]": "neither a system policy", "roles[2].name": "another role's name", "roles[3].id": "stands twice",
		}},
		{"members", document(`"members": [
			{"account": {"id": "owner", "email": "OWNER@example.com"}},
			{"account": {"id": "mia", "email": "mia@example.com"}, "status": "removed"},
			{"account": {"id": "mia", "email": "MIA@example.com"}, "status": "Active", "display_name": "a\u202eb"},
			{"account": {"id": null, "email": "mia@EXAMPLE.com", "display_name": "\u0000"}}]`), map[string]string{
			"members[0].account.id": "owner's", "members[0].account.email": "owner's", "members[1].status": "must be one of",
			"members[2].account.id": "stands twice", "members[2].account.email": "stands twice", "members[2].status": "must be one of", "members[2].display_name": "direction",
			"members[3].account.email": "stands twice", "members[3].account.display_name": "control",
		}},
		{"grants", document(role, grants(
			`{"resource": {"type": "environments", "id": "owner"}, "roles": ["r"]}`,
			`{"resource": {"type": "environments", "id": "owner"}, "roles": ["R"]}`,
			`{"resource": {"type": "groups", "id": "mia"}, "roles": ["r"]}`,
			`{"resource": {"type": "environment", "id": "nowhere"}, "roles": []}`,
			`{"resource": {"type": "planet", "id": "/"}, "roles": ["nobody", "r"], "expires_at": "tomorrow"}`,
			`{"resource": {"type": "account", "id": "owner"}, "roles": ["r"], "expires_at": "1969-12-31T23:59:59Z"}`,
			`{"resource": {"type": "groups", "id": "owner"}, "roles": ["r"], "expires_at": "2030-01-01 00:00:00Z"}`,
		)), map[string]string{
			"members[0].grants[1].resource": "two grants", "members[0].grants[2].resource.id": "must be the owner's id",
			"members[0].grants[3].resource.id": "is not of this document", "members[0].grants[3].roles": "must not be empty",
			"members[0].grants[4].resource.type": "must be one of", "members[0].grants[4].resource.id": "must be 1 to 128",
			"members[0].grants[4].roles[0]": "neither the id nor the name", "members[0].grants[4].expires_at": "RFC 3339",
			"members[0].grants[5].expires_at": "years 1970 to 9999", "members[0].grants[6].expires_at": "RFC 3339",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := policies.DecodeDocument([]byte(test.doc), policies.WithCatalogue(index(t)))
			var invalid *policies.InvalidError
			require.ErrorAs(t, err, &invalid)
			got := map[string]string{}
			for _, f := range invalid.Errors {
				require.NotContains(t, got, f.Field)
				got[f.Field] = f.Reason
			}
			for field, reason := range test.errors {
				require.Contains(t, got[field], reason, field)
			}
			require.Len(t, got, len(test.errors), "%v", invalid)
		})
	}
}

func TestDecodeDocumentSaysWhereItIsMalformed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, doc, where, reason string }{
		{"empty", ``, "", "is not valid JSON"},
		{"cut off", "{\n" + account + ",\n \"groups\": [", "/groups", "is not valid JSON"},
		{"syntax", "{\n" + account + ",\n \"groups\": [}\n}", "/groups/0", "(line 3, column 13)"},
		{"two documents", document() + "{}", "", "is not valid JSON"},
		{"not an object", `[]`, "", "must be an object, not an array"},
		{"wrong type", document(`"groups": {}`), "/groups", "must be an array, not an object"},
		{"wrong type deep", document(`"members": [{"grants": [{"roles": [1]}]}]`), "/members/0/grants/0/roles/0", ", not a number"},
		{"wrong type of an id", document(`"members": [{"account": {"id": 7}}]`), "/members/0/account/id", ", not a number"},
		{"true for a string", `{"account": {"id": true}}`, "/account/id", "must be a string, not true or false"},
		{"unknown", document(`"groops": []`), "/groops", "is not a known field"},
		{"another case", document(`"Groups": []`), "/Groups", "is not a known field"},
		{"duplicate", document(`"groups": [], "groups": []`), "/groups", "stands twice"},
		{"invalid UTF-8", document(`"groups": [{"id": "` + "\xff" + `"}]`), "/groups/0/id", "is not valid JSON: invalid UTF-8"},
		{"half a surrogate", document(`"groups": [{"id": "\ud800"}]`), "/groups/0/id", "is not valid JSON"},
		{"too deep", strings.Repeat(`[`, 100_000), "", "must be an object, not an array"},
		{"too deep inside", document(`"groups": ` + strings.Repeat(`{"a":`, 100_000)), "/groups", "must be an array, not an object"},
		{"too deep where nothing is known", document(`"x": ` + strings.Repeat(`[`, 100_000)), "/x", "is not a known field"},
		{"a huge name", document(`"` + strings.Repeat("x", 1_000_000) + `": 1`), "/xxx", "is not a known field"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := policies.DecodeDocument([]byte(test.doc))
			var malformed *policies.MalformedError
			require.ErrorAs(t, err, &malformed)
			require.Contains(t, malformed.Reason, test.reason)
			if strings.HasSuffix(malformed.Where, "…") {
				require.True(t, strings.HasPrefix(malformed.Where, test.where), malformed.Where)
			} else {
				require.Equal(t, test.where, malformed.Where)
			}
			require.Less(t, len(malformed.Error()), 1000)
		})
	}
}

func TestGroupDepth(t *testing.T) {
	t.Parallel()
	chain := func(n int) string {
		groups := []string{`{"id": "g1", "name": "g"}`}
		for i := 2; i <= n; i++ {
			groups = append(groups, fmt.Sprintf(`{"id": "g%d", "name": "g", "parent": "g%d"}`, i, i-1))
		}
		return document(`"groups": [` + strings.Join(groups, ",") + `]`)
	}
	_, err := policies.DecodeDocument([]byte(chain(policies.MaxGroupDepth)))
	require.NoError(t, err)
	_, err = policies.DecodeDocument([]byte(chain(policies.MaxGroupDepth + 1)))
	require.EqualError(t, err, "groups[128].parent nests groups more than 128 deep")
}

func TestHugeIDsAreShortInErrors(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("x", 1_000_000)
	for _, part := range []string{
		`"groups": [{"id": "` + huge + `", "name": "a"}, {"id": "` + huge + `", "name": "` + huge + `", "parent": "` + huge + `"}]`,
		`"environments": [{"id": "e", "name": "e", "groups": ["` + huge + `"]}]`,
		`"roles": [{"id": "e", "name": "e", "policies": ["` + huge + `"]}]`,
		`"members": [{"account": {"id": "` + huge + `", "email": "` + huge + `"}, "status": "` + huge + `", "grants": [{"resource": {"type": "environment", "id": "` + huge + `"}, "roles": ["` + huge + `"], "expires_at": "` + huge + `"}]}]`,
	} {
		_, err := policies.DecodeDocument([]byte(document(part)), policies.WithCatalogue(index(t)))
		require.Error(t, err)
		require.Less(t, len(err.Error()), 2000)
	}
}

func TestManyErrorsAreCounted(t *testing.T) {
	t.Parallel()
	_, err := policies.DecodeDocument([]byte(document(`"groups": [` + strings.Repeat(`{},`, 2999) + `{}]`)))
	var invalid *policies.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Len(t, invalid.Errors, policies.MaxFieldErrors+1)
	require.Equal(t, policies.FieldError{Reason: "5000 more invalid fields are not listed"}, invalid.Errors[policies.MaxFieldErrors])
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	_, err := policies.DecodeDocument(make([]byte, policies.MaxDocumentBytes+1))
	var tooLarge *policies.TooLargeError
	require.ErrorAs(t, err, &tooLarge)
}

// TestDocumentRoundTrip: what is encoded decodes to the same, on one line and
// indented.
func TestDocumentRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		world, err := policiestest.NewWorld(rapiddice.New(rt), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		require.NoError(rt, err)
		for _, want := range world.Documents {
			data, err := policies.EncodeDocument(want)
			require.NoError(rt, err)
			got, err := policies.DecodeDocument(data)
			require.NoError(rt, err)
			require.Empty(rt, cmp.Diff(want, got))
			again, err := policies.EncodeDocument(got)
			require.NoError(rt, err)
			require.Equal(rt, string(data), string(again))

			line, err := policies.MarshalDocument(want)
			require.NoError(rt, err)
			require.NotContains(rt, string(line), "\n")
			got, err = policies.DecodeDocument(line)
			require.NoError(rt, err)
			require.Empty(rt, cmp.Diff(want, got))
		}
	})
}

func TestValidateDocument(t *testing.T) {
	t.Parallel()
	d, err := policies.DecodeDocument([]byte(document(
		`"roles": [{"id": "r", "name": "R", "policies": ["nothing.known"]}]`,
		`"members": [{"account": {"id": "mia", "email": "mia@example.com"}, "grants": [{"resource": {"type": "account", "id": "owner"}, "roles": ["R"]}]}]`,
	)))
	require.NoError(t, err)
	require.Equal(t, []policies.RoleID{"r"}, d.Members[0].Grants[0].Roles)
	err = policies.ValidateDocument(d, index(t))
	require.EqualError(t, err, `roles[0].policies[0] "nothing.known" is neither a system policy nor a policy of this document`)
}
