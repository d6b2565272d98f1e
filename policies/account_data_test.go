package policies_test

import (
	"errors"
	"iter"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

func object(t *testing.T, kind policies.Kind, id string, body any) policies.Object {
	t.Helper()
	o, err := policies.NewObject(kind, "owner", id, body)
	require.NoError(t, err)
	return o
}

func sequence(objects []policies.Object, last error) iter.Seq2[policies.Object, error] {
	return func(yield func(policies.Object, error) bool) {
		for _, o := range objects {
			if !yield(o, nil) {
				return
			}
		}
		if last != nil {
			yield(policies.Object{}, last)
		}
	}
}

func TestNewAccountDataRefuses(t *testing.T) {
	t.Parallel()
	group := func(id string, parent policies.GroupID) policies.Object {
		return object(t, policies.KindGroup, id, policies.GroupBody{Parent: &parent})
	}
	mia := policies.AccountID("mia")
	member := func(id string, status policies.Status) policies.Object {
		return object(t, policies.KindMember, id, policies.MemberBody{Account: &mia, Status: status})
	}
	for name, test := range map[string]struct {
		objects []policies.Object
		reason  string
	}{
		"a cycle":          {[]policies.Object{group("a", "b"), group("b", "a")}, "in a cycle"},
		"no parent":        {[]policies.Object{group("a", "b")}, `group "a" is below "b", which does not exist`},
		"two live records": {[]policies.Object{member("m1", "active"), member("m2", "left")}, `account "mia" has another live record, "m1"`},
		"a token":          {[]policies.Object{object(t, policies.KindToken, "t", policies.TokenBody{})}, "does not belong to an account"},
		"another kind":     {[]policies.Object{object(t, "x", "t", 1)}, "does not belong to an account"},
		"a wrong body":     {[]policies.Object{object(t, policies.KindRole, "r", 1)}, `object role "r" of owner "owner"`},
		"a wrong key":      {[]policies.Object{object(t, policies.KindGrant, "m", policies.GrantBody{})}, "is not MEMBER/TYPE/ID"},
	} {
		_, err := policies.NewAccountData("owner", sequence(test.objects, nil))
		require.ErrorContains(t, err, test.reason, name)
	}
	broken := errors.New("broken")
	_, err := policies.NewAccountData("owner", sequence(nil, broken))
	require.ErrorIs(t, err, broken)
}

// TestMembersThatCount: of several records of one account the live one; of those
// without an account none; grants of removed ones never.
func TestMembersThatCount(t *testing.T) {
	t.Parallel()
	mia, pia := policies.AccountID("mia"), policies.AccountID("pia")
	role := policies.GrantBody{Roles: []policies.RoleID{"r"}}
	objects := []policies.Object{
		object(t, policies.KindMember, "m1", policies.MemberBody{Account: &mia, Status: "removed"}),
		object(t, policies.KindMember, "m2", policies.MemberBody{Account: &mia, Status: "active"}),
		object(t, policies.KindMember, "m3", policies.MemberBody{Account: &mia, Status: "removed"}),
		object(t, policies.KindMember, "m4", policies.MemberBody{Status: "pending"}),
		object(t, policies.KindMember, "m5", policies.MemberBody{Account: &pia, Status: "removed"}),
		object(t, policies.KindGrant, "m1/account/owner", role),
		object(t, policies.KindGrant, "m2/groups/owner", role),
		object(t, policies.KindGrant, "m4/groups/owner", role),
		object(t, policies.KindGrant, "m5/groups/owner", role),
		object(t, policies.KindGroup, "gone", nil),
	}
	for range 2 {
		data, err := policies.NewAccountData("owner", sequence(objects, nil))
		require.NoError(t, err)
		require.Equal(t, map[policies.AccountID]policies.MemberData{
			"mia": {ID: "m2", Status: "active", Grants: map[policies.ResourceType]map[string]policies.GrantData{"groups": {"owner": {Roles: []policies.RoleID{"r"}}}}},
			"pia": {ID: "m5", Status: "removed", Grants: map[policies.ResourceType]map[string]policies.GrantData{}},
		}, data.Members)
		require.Empty(t, data.Groups)
		for i, j := 0, len(objects)-1; i < j; i, j = i+1, j-1 { // in any order
			objects[i], objects[j] = objects[j], objects[i]
		}
	}
}

func TestExpiryNS(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"1970-01-01T00:00:00Z", "2001-02-03T04:05:06.000789Z", "2261-12-31T23:59:59.999999Z", "2262-01-01T00:00:00Z",
		"2997-06-01T00:00:00.000001Z", "9999-12-31T23:59:59.999999Z",
	} {
		at, err := policies.ParseExpiry(text)
		require.NoError(t, err)
		require.Equal(t, text, policies.FormatTime(at))
		want := new(big.Int).Add(new(big.Int).Mul(big.NewInt(at.Unix()), big.NewInt(1e9)), big.NewInt(int64(at.Nanosecond())))
		require.Equal(t, want.String(), string(policies.ExpiryNS(at)))
	}
}

func TestParseExpiry(t *testing.T) {
	t.Parallel()
	at, err := policies.ParseExpiry("2030-01-01T00:30:00.1234569+01:00")
	require.NoError(t, err)
	require.Equal(t, time.Date(2029, 12, 31, 23, 30, 0, 123456000, time.UTC), at)
	for _, text := range []string{
		"", "tomorrow", "2030-01-01", "2030-01-01T00:00:00", "2030-01-01 00:00:00Z", "2030-02-30T00:00:00Z", "2030-01-01T24:00:00Z",
		"2030-01-01T00:00:60Z", "2030-01-01T00:00:00,5Z", "2030-1-1T0:0:0Z", "12030-01-01T00:00:00Z", "1893456000",
		"1969-12-31T23:59:59Z", "1970-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "0000-00-00T00:00:00Z",
	} {
		_, err := policies.ParseExpiry(text)
		require.Error(t, err, text)
	}
}
