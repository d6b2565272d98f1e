package store_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// machine runs random operations on a store and on the model.
type machine struct {
	t     *testing.T
	s     *store.Store
	m     *model
	clock *clock
	made  int // records
	told  *postbox
}

// postbox keeps the notices that are posted.
type postbox struct{ notices []store.Notice }

func (p *postbox) Post(_ context.Context, _ pgx.Tx, notices []store.Notice) error {
	p.notices = append(p.notices, notices...)
	return nil
}

// sameAgain is randomness that can be begun again: so a run of operations makes the
// same ids whenever it is repeated.
type sameAgain struct{ *rand.ChaCha8 }

func (r *sameAgain) begin() { r.ChaCha8 = rand.NewChaCha8([32]byte{}) }

// The pools are small, so that operations meet.
var (
	someAccounts     = []policies.AccountID{"a1", "a2", "a3", "a4"}
	someEmails       = []string{"one@example.com", "two@example.com", "Three@example.com", "four@example.com", "five@example.com"}
	someGroups       = []policies.GroupID{"g1", "g2", "g3", "g4"}
	someEnvironments = []policies.EnvironmentID{"e1", "e2", "e3"}
	someRoles        = []policies.RoleID{"r1", "r2", "r3"}
	somePolicies     = []policies.PolicyID{"p1", "p2"}
	someNames        = []string{"Name", "NAME", "other", "r1"}
)

func draw[T any](rt *rapid.T, pool []T, label string) T {
	return rapid.SampledFrom(pool).Draw(rt, label)
}

func (x *machine) grants(rt *rapid.T, owner policies.AccountID) []policies.Grant {
	var grants []policies.Grant
	for range rapid.IntRange(0, 2).Draw(rt, "grants") {
		g := x.grant(rt, owner)
		if !slices.ContainsFunc(grants, func(o policies.Grant) bool { return o.Resource == g.Resource }) {
			grants = append(grants, g)
		}
	}
	return grants
}

func (x *machine) grant(rt *rapid.T, owner policies.AccountID) policies.Grant {
	r := policies.Resource{Type: draw(rt, policies.ResourceTypes, "type"), ID: string(owner)}
	switch r.Type {
	case policies.TypeEnvironment:
		r.ID = string(draw(rt, someEnvironments, "environment"))
	case policies.TypeGroup:
		r.ID = string(draw(rt, someGroups, "group"))
	default:
	}
	g := policies.Grant{Resource: r, Roles: rapid.SliceOfNDistinct(rapid.SampledFrom(someRoles), 1, 2, rapid.ID).Draw(rt, "roles")}
	if hours := rapid.IntRange(-1, 5).Draw(rt, "ends"); hours < 3 {
		end := x.m.now.Add(time.Duration(hours)*time.Hour + time.Minute)
		g.ExpiresAt = &end
	}
	return g
}

// record is a random record's id and owner; sometimes of someone else.
func (x *machine) record(rt *rapid.T) (policies.AccountID, policies.CollaborationID) {
	records := slices.SortedFunc(maps.Values(x.m.records), func(a, b *modelRecord) int { return a.made - b.made })
	if len(records) == 0 || rapid.IntRange(0, 15).Draw(rt, "stranger") == 0 {
		return draw(rt, someAccounts, "owner"), "member-nobody"
	}
	r := records[rapid.IntRange(0, len(records)-1).Draw(rt, "record")]
	return r.owner, r.id
}

// member is a random record's id and member.
func (x *machine) member(rt *rapid.T) (policies.AccountID, policies.CollaborationID) {
	_, id := x.record(rt)
	if r := x.m.records[id]; r != nil && r.account != nil && rapid.IntRange(0, 5).Draw(rt, "stranger") > 0 {
		return *r.account, id
	}
	return draw(rt, someAccounts, "member"), id
}

// require holds the store's outcome of an operation against the model's.
func (x *machine) require(rt *rapid.T, want string, err error) bool {
	if got := outcome(err); got != want {
		rt.Fatalf("the store says %q, the model %q", got, want)
	}
	return err == nil
}

// populate gives two accounts something to share, so that most operations find
// something to do.
func (x *machine) populate(rt *rapid.T) {
	ctx := x.t.Context()
	for i, id := range someAccounts {
		a := policies.Account{ID: id, Email: someEmails[i]}
		_, err := x.s.PutAccount(ctx, call(), a)
		x.require(rt, x.m.putAccount(a), err)
	}
	for i, g := range someGroups {
		o, group := someAccounts[i/3], policies.Group{ID: g, Name: fmt.Sprint("Name ", i), Color: policies.DefaultColor}
		if i > 0 && i < 3 {
			group.Parent = &someGroups[i-1]
		}
		_, err := x.s.PutGroup(ctx, call(), o, group)
		x.require(rt, x.m.putGroup(o, group), err)
	}
	for i, e := range someEnvironments {
		o, environment := someAccounts[i/2], policies.Environment{ID: e, Name: "Name", Groups: []policies.GroupID{someGroups[(i*3+1)%4]}}
		_, err := x.s.PutEnvironment(ctx, call(), o, environment)
		x.require(rt, x.m.putEnvironment(o, environment), err)
	}
	for _, o := range someAccounts[:2] {
		p := policies.Policy{ID: "p1", Name: "Name", Actions: []policies.ActionName{"own.Do"}}
		_, err := x.s.CreatePolicy(ctx, call(), o, p)
		x.require(rt, x.m.createPolicy(o, p), err)
		for _, id := range someRoles {
			role := policies.Role{ID: id, Name: "Role " + string(id), Policies: []policies.PolicyID{"p1"}}
			_, err := x.s.CreateRole(ctx, call(), o, role)
			x.require(rt, x.m.putRole(o, role, true), err)
		}
		for _, email := range someEmails[1:] {
			i := store.Invitation{Email: email, Grants: []policies.Grant{grant("environments", string(o), "r1", "r2")}}
			got, err := x.s.Invite(ctx, call(), o, i)
			r, want := x.m.invite(o, email, nil, i.Grants, true)
			x.invited(rt, r, want, got, err)
		}
	}
}

func (x *machine) actions() map[string]func(*rapid.T) {
	ctx := x.t.Context()
	// Two owners share most; the others come in now and then.
	owner := func(rt *rapid.T) policies.AccountID {
		return draw(rt, []policies.AccountID{"a1", "a1", "a1", "a2", "a2", "a3", "a4"}, "owner")
	}
	return map[string]func(*rapid.T){
		"put account": func(rt *rapid.T) {
			a := policies.Account{ID: draw(rt, someAccounts, "id"), Email: draw(rt, someEmails, "email"), DisplayName: draw(rt, someNames, "name")}
			_, err := x.s.PutAccount(ctx, call(), a)
			x.require(rt, x.m.putAccount(a), err)
		},
		"delete account": func(rt *rapid.T) {
			if rapid.IntRange(0, 9).Draw(rt, "really") > 0 {
				return // not so often
			}
			id := owner(rt)
			_, err := x.s.DeleteAccount(ctx, call(), id)
			x.require(rt, x.m.deleteAccount(id), err)
		},
		"put group": func(rt *rapid.T) {
			o, g := owner(rt), policies.Group{ID: draw(rt, someGroups, "id"), Name: draw(rt, someNames, "name"), Color: policies.DefaultColor}
			if rapid.Bool().Draw(rt, "below") {
				g.Parent = new(draw(rt, someGroups, "parent"))
			}
			_, err := x.s.PutGroup(ctx, call(), o, g)
			x.require(rt, x.m.putGroup(o, g), err)
		},
		"delete group": func(rt *rapid.T) {
			o, id := owner(rt), draw(rt, someGroups, "id")
			_, err := x.s.DeleteGroup(ctx, call(), o, id)
			x.require(rt, x.m.deleteGroup(o, id), err)
		},
		"put environment": func(rt *rapid.T) {
			o, e := owner(rt), policies.Environment{ID: draw(rt, someEnvironments, "id"), Name: draw(rt, someNames, "name")}
			e.Groups = rapid.SliceOfNDistinct(rapid.SampledFrom(someGroups), 0, 2, rapid.ID).Draw(rt, "groups")
			_, err := x.s.PutEnvironment(ctx, call(), o, e)
			x.require(rt, x.m.putEnvironment(o, e), err)
		},
		"delete environment": func(rt *rapid.T) {
			o, id := owner(rt), draw(rt, someEnvironments, "id")
			_, err := x.s.DeleteEnvironment(ctx, call(), o, id)
			x.require(rt, x.m.deleteEnvironment(o, id), err)
		},
		"transfer environment": func(rt *rapid.T) {
			o, id, to := owner(rt), draw(rt, someEnvironments, "id"), draw(rt, someAccounts, "to")
			_, err := x.s.TransferEnvironment(ctx, call(), o, id, to)
			x.require(rt, x.m.transfer(o, id, to), err)
		},
		"create policy": func(rt *rapid.T) {
			o, p := owner(rt), policies.Policy{ID: draw(rt, somePolicies, "id"), Name: draw(rt, someNames, "name"), Actions: []policies.ActionName{"own.Do"}}
			_, err := x.s.CreatePolicy(ctx, call(), o, p)
			x.require(rt, x.m.createPolicy(o, p), err)
		},
		"delete policy": func(rt *rapid.T) {
			o, id, force := owner(rt), draw(rt, somePolicies, "id"), rapid.Bool().Draw(rt, "force")
			_, err := x.s.DeletePolicy(ctx, call(), o, id, force)
			x.require(rt, x.m.deletePolicy(o, id, force), err)
		},
		"put role": func(rt *rapid.T) {
			o, r := owner(rt), policies.Role{ID: draw(rt, someRoles, "id"), Name: draw(rt, someNames, "name")}
			r.Policies = rapid.SliceOfNDistinct(rapid.SampledFrom(append(somePolicies, "environment.view")), 0, 2, rapid.ID).Draw(rt, "policies")
			create := rapid.Bool().Draw(rt, "create")
			var err error
			if create {
				_, err = x.s.CreateRole(ctx, call(), o, r)
			} else {
				_, err = x.s.UpdateRole(ctx, call(), o, r.ID, store.RolePatch{Name: &r.Name, Policies: &r.Policies})
			}
			x.require(rt, x.m.putRole(o, r, create), err)
		},
		"delete role": func(rt *rapid.T) {
			o, id, force := owner(rt), draw(rt, someRoles, "id"), rapid.Bool().Draw(rt, "force")
			_, err := x.s.DeleteRole(ctx, call(), o, id, force)
			x.require(rt, x.m.deleteRole(o, id, force), err)
		},
		"invite": func(rt *rapid.T) {
			o, email := owner(rt), draw(rt, someEmails, "email")
			i := store.Invitation{Email: email, Grants: x.grants(rt, o)}
			if rapid.Bool().Draw(rt, "named") {
				i.DisplayName = new(draw(rt, someNames, "name"))
			}
			got, err := x.s.Invite(ctx, call(), o, i)
			r, want := x.m.invite(o, email, i.DisplayName, i.Grants, len(i.Grants) > 0)
			x.invited(rt, r, want, got, err)
		},
		"copy member": func(rt *rapid.T) {
			o, id := x.record(rt)
			email := draw(rt, someEmails, "email")
			got, err := x.s.CopyMember(ctx, call(), o, id, email, nil)
			source, want := x.m.ofOwner(o, id)
			var r *modelRecord
			if want == "" {
				var live []policies.Grant
				for _, g := range source.grants {
					if g.ExpiresAt == nil || x.m.now.Before(*g.ExpiresAt) {
						live = append(live, g)
					}
				}
				r, want = x.m.invite(o, email, nil, live, true)
			}
			x.invited(rt, r, want, got, err)
		},
		"reinvite": func(rt *rapid.T) {
			o, id := x.record(rt)
			got, err := x.s.Reinvite(ctx, call(), o, id)
			r, want := x.m.ofOwner(o, id)
			switch {
			case want != "":
			case r.status == policies.StatusRemoved:
				r, want = x.m.invite(o, r.email, nil, nil, false)
			default:
				if want = x.m.event(r, policies.EventInvite); want == "" {
					maps.DeleteFunc(r.grants, func(_ policies.Resource, g policies.Grant) bool {
						return g.ExpiresAt != nil && !x.m.now.Before(*g.ExpiresAt)
					})
				}
			}
			x.invited(rt, r, want, got, err)
		},
		"owner's event": func(rt *rapid.T) {
			o, id := x.record(rt)
			event := draw(rt, []policies.Event{policies.EventSuspend, policies.EventActivate, policies.EventResend, policies.EventRemove}, "event")
			var err error
			switch event {
			case policies.EventSuspend:
				_, err = x.s.Suspend(ctx, call(), o, id)
			case policies.EventActivate:
				_, err = x.s.Activate(ctx, call(), o, id)
			case policies.EventResend:
				_, err = x.s.Resend(ctx, call(), o, id)
			default:
				_, err = x.s.RemoveMember(ctx, call(), o, id)
			}
			r, want := x.m.ofOwner(o, id)
			if want == "" {
				want = x.m.event(r, event)
			}
			x.require(rt, want, err)
		},
		"member's event": func(rt *rapid.T) {
			account, id := x.member(rt)
			event := draw(rt, []policies.Event{policies.EventAccept, policies.EventAccept, policies.EventReject, policies.EventLeave}, "event")
			var err error
			var want string
			switch event {
			case policies.EventAccept:
				_, err = x.s.Accept(ctx, call(), store.Acceptor{Account: policies.Account{ID: account}}, id)
				want = x.m.accept(account, id)
			case policies.EventReject:
				_, err = x.s.Reject(ctx, call(), account, id)
			default:
				_, err = x.s.Leave(ctx, call(), account, id)
			}
			if event != policies.EventAccept {
				var r *modelRecord
				if r, want = x.m.asMember(account, id); want == "" {
					want = x.m.event(r, event)
				}
			}
			x.require(rt, want, err)
		},
		"set grants": func(rt *rapid.T) {
			o, id := x.record(rt)
			grants := x.grants(rt, o)
			_, err := x.s.SetGrants(ctx, call(), o, id, grants)
			r, want := x.m.ofOwner(o, id)
			if want == "" {
				want = x.m.setGrants(r, grants, "grants", false)
			}
			x.require(rt, want, err)
		},
		"put grant": func(rt *rapid.T) {
			o, id := x.record(rt)
			g := x.grant(rt, o)
			_, err := x.s.PutGrant(ctx, call(), o, id, g)
			r, want := x.m.ofOwner(o, id)
			if want == "" {
				want = x.m.setGrants(r, []policies.Grant{g}, "", true)
			}
			x.require(rt, want, err)
		},
		"an hour passes": func(rt *rapid.T) {
			d := time.Duration(rapid.IntRange(1, 40).Draw(rt, "hours")) * time.Hour
			x.clock.Advance(d)
			x.m.now = x.clock.Now()
		},
		"import what was exported": func(rt *rapid.T) {
			o := owner(rt)
			if x.m.owners[o] == nil {
				return
			}
			exported, err := x.s.Export(ctx, o)
			require.NoError(rt, err)
			if d := cmp.Diff(x.m.document(o), exported.Value); d != "" {
				rt.Fatalf("export of %s: %s", o, d)
			}
			head, err := x.s.Head(ctx)
			require.NoError(rt, err)
			report, err := x.s.Import(ctx, call(), lines(exported.Value), nil)
			require.NoError(rt, err)
			require.Empty(rt, report.Errors)
			require.Equal(rt, head.Revision, report.Revision, "a document as it was exported changes nothing")
		},
		"": func(*rapid.T) {},
	}
}

// invited holds the record that an invitation made or changed against the model's.
func (x *machine) invited(rt *rapid.T, r *modelRecord, want string, got store.Result[policies.Member], err error) {
	if !x.require(rt, want, err) {
		return
	}
	if r.id == "" {
		require.True(rt, got.Created)
		r.id = got.Value.ID
		x.made++
		r.made = x.made
		x.m.records[r.id] = r
	}
	require.Equal(rt, r.id, got.Value.ID)
	require.Equal(rt, r.status, got.Value.Status)
	require.Len(rt, got.Value.Grants, len(r.grants))
}

// check holds everything against the model.
func (x *machine) check(rt *rapid.T) {
	require.Len(rt, x.told.notices, len(x.m.told), "%v", x.told.notices)
	for i, want := range x.m.told {
		got := x.told.notices[i]
		require.Equal(rt, want.kind, got.Kind)
		require.Equal(rt, want.record.owner, got.Owner)
		require.Equal(rt, want.record.id, got.Member)
	}
	for _, id := range someAccounts {
		if x.m.owners[id] == nil {
			_, err := x.s.Export(x.t.Context(), id)
			x.require(rt, "not found account", err)
			continue
		}
		exported, err := x.s.Export(x.t.Context(), id)
		require.NoError(rt, err)
		if d := cmp.Diff(x.m.document(id), exported.Value); d != "" {
			rt.Fatalf("export of %s: %s", id, d)
		}
		list, err := x.s.ListMembers(x.t.Context(), id, store.MemberFilter{}, store.Page{})
		require.NoError(rt, err)
		for _, item := range list.Items {
			r := x.m.records[item.Value.ID]
			require.NotNil(rt, r, "a record that the model does not have: %v", item.Value)
			require.Equal(rt, fmt.Sprint(r.status, r.email, r.name), fmt.Sprint(item.Value.Status, item.Value.Email, item.Value.DisplayName))
			require.Equal(rt, r.account, item.Value.Account)
			require.True(rt, r.changed.Equal(item.Value.LastChanged), "last change of %v: %s", item.Value, r.changed)
		}
	}
}

// Random operations on the store give what the plain model gives: the same errors,
// the same documents, the same records, the same notices; and the log says what the
// tables say.
func TestStoreAgreesWithTheModel(t *testing.T) {
	t.Parallel()
	c := newClock()
	random := &sameAgain{}
	random.begin()
	told := &postbox{}
	s := storetest.New(t, store.Options{Clock: c.Now, Rand: random, Outbox: told})
	rapid.Check(t, func(rt *rapid.T) {
		wipe(t, s)
		random.begin()
		c.now = newClock().now
		x := &machine{t: t, s: s, m: newModel(c.Now(), store.DefaultInvitationTTL), clock: c, told: told}
		told.notices = nil
		x.populate(rt)
		rt.Repeat(x.actions())
		x.check(rt)
	})
	requireSound(t, s)
}
