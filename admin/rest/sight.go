package rest

import (
	"context"

	"github.com/usher-authz/usher/admin/rights"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// sight is what a caller may see of an account: everything as a service or the owner;
// as a member itself, and what its rights show (domain.md, Who may change what). The
// engine decides, and is asked once for each right.
type sight struct {
	a      *API
	owner  policies.AccountID
	member policies.AccountID // empty: sees everything
	known  map[rights.Need]bool
}

// sightOf waits until the engine has all that was acknowledged.
func (a *API) sightOf(ctx context.Context, r *request, owner policies.AccountID) (*sight, error) {
	return &sight{a: a, owner: owner, member: r.caller.member, known: map[rights.Need]bool{}}, a.fresh(ctx)
}

func (s *sight) everything() bool { return s.member == "" }

// may tells whether the caller has a right.
func (s *sight) may(ctx context.Context, action policies.ActionName, resource policies.Resource) (bool, error) {
	if s.everything() {
		return true, nil
	}
	need := rights.Need{Action: action, Resource: resource}
	if known, ok := s.known[need]; ok {
		return known, nil
	}
	d, err := s.a.engine.Check(ctx, 0, authz.Question{
		SubjectType: "account", Subject: string(s.member), Action: string(action), ResourceType: string(resource.Type), ResourceID: resource.ID,
	})
	if err != nil {
		return false, err
	}
	s.known[need] = d.Allow
	return d.Allow, nil
}

func (s *sight) onAccount(ctx context.Context, action policies.ActionName) (bool, error) {
	return s.may(ctx, action, policies.Resource{Type: policies.TypeAccount, ID: string(s.owner)})
}

// members tells whether the caller sees all members.
func (s *sight) members(ctx context.Context) (bool, error) {
	return s.onAccount(ctx, rights.GetMembers)
}

// self tells whether a record is the caller's own.
func (s *sight) self(m policies.Member) bool {
	return !s.everything() && m.Account != nil && *m.Account == s.member
}

// record is the caller's own record.
func (s *sight) record() (policies.CollaborationID, bool) {
	account, ok := s.a.engine.State().Account(s.owner)
	if !ok {
		return "", false
	}
	m, ok := account.MemberOf(s.member)
	if !ok {
		return "", false
	}
	return m.ID(), true
}

// grants are those of a member that the caller may see: its own, all of them with the
// right to see everybody's items, or those on items whose collaborators it may list.
func (s *sight) grants(ctx context.Context, m policies.Member) ([]policies.Grant, error) {
	all, err := s.onAccount(ctx, rights.GetMemberResources)
	if err != nil {
		return nil, err
	}
	if all || s.self(m) {
		return m.Grants, nil
	}
	seen := []policies.Grant{}
	for _, g := range m.Grants {
		ok, err := s.may(ctx, rights.GetMembers, g.Resource)
		if err != nil {
			return nil, err
		}
		if ok {
			seen = append(seen, g)
		}
	}
	return seen, nil
}

// view is a member as the caller may see it. Of one that it may not see at all, to
// whom it may give something nonetheless, it sees no more than it named itself.
func (s *sight) view(ctx context.Context, item store.Item[policies.Member]) (memberView, error) {
	grants, err := s.grants(ctx, item.Value)
	if err != nil {
		return memberView{}, err
	}
	seen, err := s.members(ctx)
	if err != nil {
		return memberView{}, err
	}
	if m := item.Value; !seen && !s.self(m) && len(grants) == 0 {
		item.Value = policies.Member{ID: m.ID, LastChanged: m.LastChanged}
	}
	item.Value.Grants = grants
	return viewMember(item), nil
}

// invited is a member that the caller has just invited, as for a new invitation.
func (s *sight) invited(ctx context.Context, item store.Item[policies.Member]) (memberView, error) {
	grants, err := s.grants(ctx, item.Value)
	item.Value.Grants = grants
	return viewMember(item), err
}
