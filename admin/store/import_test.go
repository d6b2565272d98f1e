package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// importAll puts documents in, all of them.
func importAll(t *testing.T, s *store.Store, documents ...policies.Document) store.ImportReport {
	t.Helper()
	report, err := s.Import(t.Context(), call(), lines(documents...), nil)
	require.NoError(t, err)
	require.Empty(t, report.Errors)
	require.Equal(t, len(documents), report.Imported)
	return report
}

func requireExport(t *testing.T, s *store.Store, want policies.Document) {
	t.Helper()
	got, err := s.Export(t.Context(), want.Account.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(want, got.Value))
}

// renamed is d as a document of another account, without members that would be that
// account itself.
func renamed(d policies.Document, a policies.Account) policies.Document {
	old := string(d.Account.ID)
	d.Account = a
	var members []policies.DocumentMember
	for _, m := range d.Members {
		if m.Account.ID != nil && *m.Account.ID == a.ID || policies.EmailKey(m.Account.Email) == policies.EmailKey(a.Email) {
			continue
		}
		m.Grants = slices.Clone(m.Grants)
		for i, g := range m.Grants {
			if g.Resource.Type.IsCategory() && g.Resource.ID == old {
				m.Grants[i].Resource.ID = string(a.ID)
			}
		}
		members = append(members, m)
	}
	d.Members = members
	return d.Normalize()
}

// Random worlds go in and come out as they were; again, they make no revision;
// another world's document in place of one replaces it; and nothing is left when the
// accounts are deleted.
func TestImportOfWorlds(t *testing.T) {
	t.Parallel()
	s := storetest.New(t, store.Options{})
	replaced := 0
	var before policies.Document
	for seed := range uint64(30) {
		world, err := policiestest.NewWorld(policiestest.SeededDice(seed), newClock().Now())
		require.NoError(t, err)
		first := importAll(t, s, world.Documents...)
		for _, d := range world.Documents {
			requireExport(t, s, d)
		}
		again := importAll(t, s, world.Documents...)
		require.Equal(t, first.Revision, again.Revision, "seed %d: nothing has changed", seed)
		wipe(t, s)
		if seed > 0 {
			importAll(t, s, before)
			other := renamed(world.Documents[0], before.Account)
			report, err := s.Import(t.Context(), call(), lines(other), nil)
			require.NoError(t, err)
			if len(report.Errors) == 0 {
				replaced++
				requireExport(t, s, other)
			}
			wipe(t, s)
		}
		before = world.Documents[0]
	}
	require.Greater(t, replaced, 10)
	requireSound(t, s)
}

// wipe deletes all accounts.
func wipe(t *testing.T, s *store.Store) {
	t.Helper()
	_, objects := snapshot(t, s)
	for id := range objects {
		if id.kind == policies.KindAccount {
			_, err := s.DeleteAccount(t.Context(), call(), policies.AccountID(id.id))
			require.NoError(t, err)
		}
	}
	_, objects = snapshot(t, s)
	for id := range objects {
		require.Contains(t, []policies.Kind{policies.KindPolicyInForce}, id.kind)
	}
}

func TestImportOfVectors(t *testing.T) {
	t.Parallel()
	vectors, err := policiestest.Vectors()
	require.NoError(t, err)
	s := storetest.New(t, store.Options{})
	for _, v := range vectors {
		importAll(t, s, v.Document)
		requireExport(t, s, v.Document)
		wipe(t, s)
	}
	requireSound(t, s)
}

func decode(t *testing.T, text string) policies.Document {
	t.Helper()
	d, err := policies.DecodeDocument([]byte(text))
	require.NoError(t, err)
	return d
}

func TestImportReportsAllErrors(t *testing.T) {
	t.Parallel()
	f := open(t)
	good := standardDocument(1, 1000)
	bad := decode(t, `{
		"account": {"id": "bad", "email": "MIA@example.com"},
		"groups": [{"id": "g-new", "name": "x"}, {"id": "g1", "name": "y"}],
		"environments": [{"id": "e1", "name": "x"}],
		"policies": [{"id": "environment.view", "name": "x", "resources": [], "actions": []}],
		"roles": [{"id": "r", "name": "R", "policies": ["nothing"]}],
		"members": [
			{"account": {"id": "max", "email": "other-than-max@example.com"}},
			{"account": {"id": "new", "email": "Other@example.com"}}]}`)
	taken := policies.Document{Account: policies.Account{ID: "account-1", Email: "x@example.com"}}
	before, err := f.Head(t.Context())
	require.NoError(t, err)
	documents := func(yield func(policies.DocumentLine) bool) {
		_ = yield(policies.DocumentLine{Line: 1, Account: "bad", Document: bad}) &&
			yield(policies.DocumentLine{Line: 3, Err: &policies.MalformedError{Where: "/account", Reason: "is not there"}}) &&
			yield(policies.DocumentLine{Line: 5, Account: good.Account.ID, Document: good}) &&
			yield(policies.DocumentLine{Line: 7, Account: "inv", Err: &policies.InvalidError{Errors: []policies.FieldError{{Field: "a", Reason: "b"}}}}) &&
			yield(policies.DocumentLine{Line: 9, Account: taken.Account.ID, Document: taken.Normalize()})
	}
	var progress []int
	report, err := f.Import(t.Context(), call(), documents, func(done int) { progress = append(progress, done) })
	require.NoError(t, err)
	require.Equal(t, 2, report.Imported)
	require.Equal(t, 50, report.Grants)
	require.Equal(t, before.Revision+2, report.Revision)
	require.Equal(t, []int{1, 2, 3, 4, 5}, progress)
	slices.SortFunc(report.Errors, func(a, b store.ImportError) int { return a.Line - b.Line })
	require.Equal(t, []store.ImportError{
		{Line: 1, Account: "bad", Errors: []policies.FieldError{
			{Field: "account.email", Reason: `"MIA@example.com" belongs to another account`},
			{Field: "groups[1].id", Reason: `"g1" belongs to another account`},
			{Field: "environments[0].id", Reason: `"e1" belongs to another account`},
			{Field: "policies[0].id", Reason: `"environment.view" is reserved: it is a system policy's`},
			{Field: "roles[0].policies[0]", Reason: `"nothing" is neither a system policy nor a policy of this document`},
			{Field: "members[0].account.email", Reason: `"other-than-max@example.com" is not the email of the account "max"`},
			{Field: "members[1].account.email", Reason: `"Other@example.com" belongs to another account than "new"`},
		}},
		{Line: 3, Errors: []policies.FieldError{{Field: "/account", Reason: "is not there"}}},
		{Line: 7, Account: "inv", Errors: []policies.FieldError{{Field: "a", Reason: "b"}}},
	}, report.Errors)
	_, err = f.GetAccount(t.Context(), "bad")
	requireNotFound(t, err, "account")
	requireSound(t, f.Store)
}

func TestImportEndsWithItsReader(t *testing.T) {
	t.Parallel()
	s := storetest.New(t, store.Options{})
	broken := errors.New("the body was cut off")
	report, err := s.Import(t.Context(), call(), func(yield func(policies.DocumentLine) bool) {
		_ = yield(policies.DocumentLine{Line: 1, Document: standardDocument(1, 1000)}) && yield(policies.DocumentLine{Line: 2, Err: broken})
	}, nil)
	require.ErrorIs(t, err, broken)
	require.Equal(t, 1, report.Imported, "what came before is in")
	requireSound(t, s)
}

func TestImportKeepsIdentity(t *testing.T) {
	t.Parallel()
	f := open(t)
	active := f.member("mia", grant("environment", "e1", "viewer"))
	_, err := f.UpdateCollaboration(t.Context(), call(), "mia", active, "Mine")
	require.NoError(t, err)
	pending := f.invite("nobody@example.com")
	removed := f.member("max")
	_, err = f.RemoveMember(t.Context(), call(), owner, removed)
	require.NoError(t, err)
	exported, err := f.Export(t.Context(), owner)
	require.NoError(t, err)
	require.Len(t, exported.Value.Members, 2, "removed records are not in it")

	d := exported.Value
	for i := range d.Members {
		d.Members[i].DisplayName = "New name"
	}
	report := importAll(t, f.Store, d)
	requireExport(t, f.Store, d)
	require.Equal(t, "New name", f.get(active).DisplayName)
	require.Equal(t, "New name", f.get(pending).DisplayName)
	require.Equal(t, policies.StatusRemoved, f.get(removed).Status, "no document has it, so none takes it away")
	changes, err := f.Changes(t.Context(), report.Revision-1, 1)
	require.NoError(t, err)
	objects, err := changes[0].DecodeObjects()
	require.NoError(t, err)
	require.Empty(t, objects, "names decide nothing, and what is the same is not touched")
	require.Equal(t, report.Revision, importAll(t, f.Store, d).Revision, "what was exported changes nothing")
	c, err := f.GetCollaboration(t.Context(), "mia", active)
	require.NoError(t, err)
	require.Equal(t, "Mine", c.Value.DisplayName)
	requireSound(t, f.Store)
}

func TestImportedInvitations(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := decode(t, `{
		"account": {"id": "company", "email": "company@example.com"},
		"members": [
			{"account": {"id": "mia", "email": "MIA@example.com", "display_name": "another name"}, "status": "pending"},
			{"account": {"id": null, "email": "max@example.com"}, "status": "pending"},
			{"account": {"id": null, "email": "later@example.com", "display_name": "Later"}, "status": "pending"},
			{"account": {"id": "new", "email": "new@example.com", "display_name": "New"}, "status": "active"}]}`)
	importAll(t, f.Store, d)
	members, err := f.ListMembers(t.Context(), "company", store.MemberFilter{Sort: store.SortEmail}, store.Page{})
	require.NoError(t, err)
	var accounts []string
	for _, m := range members.Items {
		a := "-"
		if m.Value.Account != nil {
			a = string(*m.Value.Account)
		}
		accounts = append(accounts, a)
	}
	require.Equal(t, []string{"-", "max", "mia", "new"}, accounts, "by address")
	mia, err := f.GetAccount(t.Context(), "mia")
	require.NoError(t, err)
	require.Equal(t, "mia", mia.Value.DisplayName, "known accounts are never changed")
	created, err := f.GetAccount(t.Context(), "new")
	require.NoError(t, err)
	require.Equal(t, "New", created.Value.DisplayName)
	// An invitation of the usual length.
	_, err = f.Accept(t.Context(), call(), store.Acceptor{Account: policies.Account{ID: "max"}}, members.Items[1].Value.ID)
	require.NoError(t, err)
	f.clock.Advance(store.DefaultInvitationTTL)
	_, err = f.Accept(t.Context(), call(), store.Acceptor{Account: policies.Account{ID: "mia"}}, members.Items[2].Value.ID)
	requireState(t, err, policies.StatusExpired, policies.EventAccept)
	requireSound(t, f.Store)
}

// Accounts that an import makes or whose address it changes are followed at other
// owners, as by PutAccount.
func TestImportMovesAddresses(t *testing.T) {
	t.Parallel()
	f := open(t)
	waiting := f.invite("later@example.com")
	bound := f.member("mia")
	importAll(t, f.Store,
		standardDocument(1, 1000),
		decode(t, `{"account": {"id": "later", "email": "Later@example.com"}}`),
		standardDocument(2, 1000),
		decode(t, `{"account": {"id": "mia", "email": "mia-new@example.com"}}`),
		// Taken by the next one in the same import.
		decode(t, `{"account": {"id": "heir", "email": "mia@example.com"}}`),
		decode(t, `{"account": {"id": "heir", "email": "heir@example.com"}, "members": [{"account": {"id": null, "email": "last@example.com"}, "status": "pending"}]}`),
		decode(t, `{"account": {"id": "last", "email": "last@example.com"}}`),
	)
	require.Equal(t, new(policies.AccountID("later")), f.get(waiting).Account)
	require.Equal(t, "mia-new@example.com", f.get(bound).Email)
	members, err := f.ListMembers(t.Context(), "heir", store.MemberFilter{}, store.Page{})
	require.NoError(t, err)
	require.Equal(t, new(policies.AccountID("last")), members.Items[0].Value.Account)
	requireSound(t, f.Store)
}

// What one batch frees and takes the next one finds free and taken, though it is
// planned before.
func TestImportPlansAhead(t *testing.T) {
	t.Parallel()
	const owners = 250
	s := storetest.New(t, store.Options{})
	documents := make([]policies.Document, 0, owners+3)
	for i := range owners {
		documents = append(documents, standardDocument(i, owners))
	}
	importAll(t, s, documents...)
	// Each gives its last environment to the one a hundred places later; some give up
	// their addresses.
	for i := range documents {
		d := &documents[i]
		d.Members = nil
		if i%100 == 7 {
			d.Account.Email = fmt.Sprintf("new%d@example.com", i)
		}
		last := slices.IndexFunc(d.Environments, func(e policies.Environment) bool {
			return e.ID == policies.EnvironmentID(fmt.Sprintf("environment-%d-19", i))
		})
		if i >= 100 {
			d.Environments[last].ID = policies.EnvironmentID(fmt.Sprintf("environment-%d-19", i-100))
		} else {
			d.Environments = slices.Delete(d.Environments, last, last+1)
		}
		*d = d.Normalize()
	}
	thief := policies.Document{Account: policies.Account{ID: "thief", Email: "thief@example.com"}, Environments: slices.Clone(documents[200].Environments[:1])}
	thief.Environments[0].Groups = nil
	heir := policies.Document{Account: policies.Account{ID: "heir", Email: "account7@example.com"}}
	documents = append(documents, documents[0], heir.Normalize(), thief.Normalize())
	report, err := s.Import(t.Context(), call(), lines(documents...), nil)
	require.NoError(t, err)
	require.Equal(t, owners+2, report.Imported, "%d errors, the first %v", len(report.Errors), report.Errors[:min(1, len(report.Errors))])
	require.Equal(t, policies.AccountID("thief"), report.Errors[0].Account)
	for _, i := range []int{0, 1, 99, 100, 101, 249} {
		requireExport(t, s, documents[i])
	}
	requireSound(t, s)
}

// One document may be larger than any batch.
func TestImportOfALargeDocument(t *testing.T) {
	t.Parallel()
	s := storetest.New(t, store.Options{})
	d := standardDocument(1, 100000)
	template := d.Members[0]
	d.Members = nil
	for i := range 2000 {
		m := template
		id := policies.AccountID("member-" + strings.Repeat("x", i%7) + "-" + string(rune('a'+i%26)) + "-" + policies.Revision(i).String())
		m.Account = policies.DocumentAccount{ID: &id, Email: string(id) + "@example.com"}
		d.Members = append(d.Members, m)
	}
	report := importAll(t, s, d)
	require.Equal(t, 10000, report.Grants)
	requireExport(t, s, d.Normalize())
	requireSound(t, s)
}
