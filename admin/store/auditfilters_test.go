package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// wants is what a filter says, entry by entry.
func wants(f store.AuditFilter, e store.Entry) bool {
	grant, _, _ := strings.Cut(e.ID, "/")
	return (f.Owner == "" || e.Owner == f.Owner) && (f.Since.IsZero() || !e.Time.Before(f.Since)) && (f.Until.IsZero() || e.Time.Before(f.Until)) &&
		(f.Actor == "" || e.Actor.Token == f.Actor || string(e.Actor.Account) == f.Actor) && (f.Action == "" || e.Action == f.Action) &&
		(f.Kind == "" || e.Kind == f.Kind) && (f.ID == "" || e.ID == f.ID) &&
		(f.Member == "" || e.Kind == policies.KindMember && e.ID == string(f.Member) || e.Kind == policies.KindGrant && grant == string(f.Member))
}

// Whatever index a list goes along, it gives what the filter says, in order, on pages
// of any size: with a clock that goes back, revisions of several owners, and ids that
// are the beginning of others.
func TestAuditFilters(t *testing.T) {
	t.Parallel()
	url, c := storetest.URL(t), newClock()
	f := newFixture(t, storetest.New(t, store.Options{URL: url, Clock: c.Now}), c)
	dice := policiestest.SeededDice(7)
	actors := []store.Actor{
		{Token: "token-x", TokenName: "x"}, {Token: "token-x", TokenName: "x", Account: owner}, {Account: owner}, {Token: "mia", TokenName: "y", Account: "mia"}, {Local: true},
	}
	first, second := f.member("mia", grant("environment", "e1", "viewer")), f.invite("max@example.com")
	for i := range 60 {
		f.clock.Advance(time.Duration(dice.Roll(50)-20) * time.Minute)
		c := store.Call{Actor: actors[dice.Roll(len(actors))]}
		id := []policies.CollaborationID{first, second}[dice.Roll(2)]
		var err error
		switch dice.Roll(6) {
		case 0:
			_, err = f.SetGrants(t.Context(), c, owner, id, []policies.Grant{grant("environment", []string{"e1", "e2"}[dice.Roll(2)], "dev"), grant("group", "g1", "viewer")})
		case 1:
			_, err = f.SetGrants(t.Context(), c, owner, id, nil)
		case 2:
			_, err = f.UpdateMember(t.Context(), c, owner, id, new(fmt.Sprint("name ", i)))
		case 3: // what others have of mia changes too
			_, err = f.PutAccount(t.Context(), c, policies.Account{ID: "mia", Email: fmt.Sprintf("mia%d@example.com", i), DisplayName: "Mia"})
		case 5: // entries of several kinds, in runs
			var e store.Item[policies.Document]
			e, err = f.Export(t.Context(), owner)
			require.NoError(t, err)
			for j := range e.Value.Members {
				m := &e.Value.Members[j]
				m.DisplayName = fmt.Sprint("import ", i)
				m.Grants = []policies.Grant{grant("environment", "e1", []policies.RoleID{"dev", "viewer"}[i%2]), grant("environment", "e2", "dev"), grant("group", "g1", "dev")}
			}
			e.Value.Roles[0].Description = fmt.Sprint("import ", i)
			_, err = f.Import(t.Context(), c, lines(e.Value.Normalize()), nil)
		case 4:
			_, err = f.UpdateRole(t.Context(), c, owner, "viewer", store.RolePatch{Description: new(fmt.Sprint(i))})
		}
		require.NoError(t, err)
	}
	everything, err := f.Audit(t.Context(), store.AuditFilter{}, store.Page{Limit: store.MaxPage})
	require.NoError(t, err)
	all := everything.Items
	require.Greater(t, len(all), 60)
	require.Empty(t, everything.NextCursor)
	require.False(t, slices.IsSortedFunc(all, func(a, b store.Entry) int { return a.Time.Compare(b.Time) }), "the clock went back")
	pick := func(n int, values ...string) string {
		if dice.Roll(n) > 0 {
			return ""
		}
		return values[dice.Roll(len(values))]
	}
	check := func(filter store.AuditFilter, limit int) (found int) {
		want := slices.DeleteFunc(slices.Clone(all), func(e store.Entry) bool { return !wants(filter, e) })
		if filter.Descending {
			slices.Reverse(want)
		}
		got := []store.Entry{}
		for page := (store.Page{Limit: limit}); ; {
			list, err := f.Audit(t.Context(), filter, page)
			require.NoError(t, err)
			got = append(got, list.Items...)
			if page.Cursor = list.NextCursor; page.Cursor == "" {
				break
			}
		}
		require.Equal(t, want, got, "%+v", filter)
		return len(want)
	}
	found := 0
	for range 250 {
		filter := store.AuditFilter{
			Owner: policies.AccountID(pick(2, string(owner), string(owner), "mia", "other")), Actor: pick(3, "token-x", string(owner), "mia", "nobody"),
			Action: pick(3, "grants.set", "account.put", "role.update", "member.update"), Kind: policies.Kind(pick(3, "grant", "member", "account", "role")),
			ID: pick(4, string(first), "viewer", string(first)+"/group/g1", "mia"), Member: policies.CollaborationID(pick(4, string(first), string(second), "m")),
			Descending: dice.Roll(2) == 0,
		}
		if dice.Roll(3) == 0 {
			filter.Since = all[dice.Roll(len(all))].Time
		}
		if dice.Roll(3) == 0 {
			filter.Until = all[dice.Roll(len(all))].Time
		}
		found += min(1, check(filter, 1+dice.Roll(30)))
	}
	// However long the runs of a kind are, a page may end inside one.
	x := newTampering(t, url)
	for _, runs := range []string{
		`select`, // as they are
		`with f as (select owner, revision, kind, ordinal, run from changes where run >= 3)
update changes c set run = case when c.ordinal = f.ordinal then 2 else f.run - 2 end
from f where c.owner = f.owner and c.revision = f.revision and c.ordinal in (f.ordinal, f.ordinal + 2)`,
		`update changes set run = 1`, // as older binaries wrote them
	} {
		x.run(runs)
		for _, kind := range []policies.Kind{policies.KindGrant, policies.KindMember, policies.KindRole} {
			for _, limit := range []int{3, 5} {
				require.Positive(t, check(store.AuditFilter{Owner: owner, Kind: kind}, limit))
				require.Positive(t, check(store.AuditFilter{Owner: owner, Kind: kind, Descending: true}, limit))
			}
		}
	}
	require.Greater(t, found, 60)
	requireSound(t, f.Store)
}
