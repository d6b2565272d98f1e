package rest

import (
	"context"
	"slices"

	"github.com/usher-authz/usher/admin/difference"
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
	// Of the engine's state: the account, nil if there is none, and what is shared in it.
	account *authz.Account
	asker   *difference.Asker
}

// sightOf waits until the engine has all that was acknowledged.
func (a *API) sightOf(ctx context.Context, r *request, owner policies.AccountID) (*sight, error) {
	if err := a.fresh(ctx); err != nil {
		return nil, err
	}
	state := a.engine.State()
	account, _ := state.Account(owner)
	return &sight{
		a: a, owner: owner, member: r.caller.member, known: map[rights.Need]bool{}, account: account, asker: a.shapes.NewAsker(state, owner),
	}, nil
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
	may, err := s.a.engine.Right(ctx, authz.Question{
		SubjectType: "account", Subject: string(s.member), Action: string(action), ResourceType: string(resource.Type), ResourceID: resource.ID,
	})
	if err != nil {
		return false, err
	}
	s.known[need] = may
	return may, nil
}

func (s *sight) onAccount(ctx context.Context, action policies.ActionName) (bool, error) {
	return s.may(ctx, action, policies.Resource{Type: policies.TypeAccount, ID: string(s.owner)})
}

// members tells whether the caller sees all members.
func (s *sight) members(ctx context.Context) (bool, error) {
	return s.onAccount(ctx, rights.GetMembers)
}

// shares tells whether a resource is shared with the caller: whether a role counts for
// it there.
func (s *sight) shares(ctx context.Context, resource policies.Resource) (bool, error) {
	if s.everything() {
		return true, nil
	}
	self, ok := s.self()
	if !ok {
		return false, nil
	}
	return s.asker.Shared(ctx, s.a.engine.Now(), self, resource)
}

// self is the caller's own record; false if there is none.
func (s *sight) self() (authz.Member, bool) {
	if s.account == nil {
		return authz.Member{}, false
	}
	return s.account.MemberOf(s.member)
}

// group tells whether a group is shared with the caller, and environment of an
// environment.
func (s *sight) group(ctx context.Context, id policies.GroupID) (bool, error) {
	return s.shares(ctx, policies.Resource{Type: policies.TypeGroup, ID: string(id)})
}

func (s *sight) environment(ctx context.Context, id policies.EnvironmentID) (bool, error) {
	return s.shares(ctx, policies.Resource{Type: policies.TypeEnvironment, ID: string(id)})
}

// anywhere tells whether the caller has a right on the account or on something that
// was given to it.
func (s *sight) anywhere(ctx context.Context, action policies.ActionName) (bool, error) {
	ok, err := s.onAccount(ctx, action)
	if ok || err != nil {
		return ok, err
	}
	for _, g := range s.given() {
		if ok, err = s.may(ctx, action, g.Resource); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// given are the caller's own grants.
func (s *sight) given() []policies.Grant {
	self, ok := s.self()
	if !ok {
		return nil
	}
	return slices.Collect(self.Grants())
}

// roles chooses the roles that the caller may see: all with the right to see them on
// anything, or else those given to it; nil: all.
func (s *sight) roles(ctx context.Context) (store.Keep[policies.RoleID], error) {
	all, err := s.anywhere(ctx, rights.GetRoles)
	if all || err != nil {
		return nil, err
	}
	given := s.given()
	return func(_ context.Context, id policies.RoleID) (bool, error) {
		return slices.ContainsFunc(given, func(g policies.Grant) bool { return slices.Contains(g.Roles, id) }), nil
	}, nil
}

// policies chooses the custom policies that the caller may see: all with the right to
// see them on anything, or else those of the roles that it sees; nil: all.
func (s *sight) policies(ctx context.Context) (store.Keep[policies.PolicyID], error) {
	all, err := s.anywhere(ctx, rights.GetPolicies)
	if all || err != nil {
		return nil, err
	}
	roles, err := s.roles(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, id policies.PolicyID) (bool, error) {
		if s.account == nil {
			return false, nil
		}
		for _, role := range s.account.RolesUsing(id) {
			if roles == nil {
				return true, nil
			}
			if seen, err := roles(ctx, role); seen || err != nil {
				return seen, err
			}
		}
		return false, nil
	}, nil
}

// itself tells whether a record is the caller's own.
func (s *sight) itself(m policies.Member) bool {
	return !s.everything() && m.Account != nil && *m.Account == s.member
}

// record is the caller's own record.
func (s *sight) record() (policies.CollaborationID, bool) {
	self, ok := s.self()
	if !ok {
		return "", false
	}
	return self.ID(), true
}

// grants are those of a member that the caller may see: its own, all of them with the
// right to see everybody's items, or those on items whose collaborators it may list.
func (s *sight) grants(ctx context.Context, m policies.Member) ([]policies.Grant, error) {
	all, err := s.onAccount(ctx, rights.GetMemberResources)
	if err != nil {
		return nil, err
	}
	if all || s.itself(m) {
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
	if m := item.Value; !seen && !s.itself(m) && len(grants) == 0 {
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

// keepOf is keep, or nil for who sees everything.
func keepOf[K ~string](s *sight, keep store.Keep[K]) store.Keep[K] {
	if s.everything() {
		return nil
	}
	return keep
}

// keptBy refuses what the caller may not see, as if it were not there.
func keptBy[K ~string](ctx context.Context, keep store.Keep[K], id K, kind string) error {
	if keep == nil {
		return nil
	}
	ok, err := keep(ctx, id)
	if err == nil && !ok {
		err = &policies.NotFoundError{Kind: kind, ID: string(id)}
	}
	return err
}

// seenList is a list of which hide takes away what the caller may not see.
func seenList[T any](ctx context.Context, list *listed[T], hide func(context.Context, *T) error) (*listed[T], error) {
	for i := range list.Body.Items {
		if err := hide(ctx, &list.Body.Items[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// seenAfter is the answer to a write of which hide takes away what a member may not
// see.
func seenAfter[T any](
	ctx context.Context, a *API, r *request, owner policies.AccountID, answer *written[T], hide func(*sight, context.Context, *T) error,
) (*written[T], error) {
	if r.caller.member == "" || r.dryRun {
		return answer, nil
	}
	sees, err := a.sightOf(ctx, r, owner)
	if err == nil {
		err = hide(sees, ctx, &answer.Body)
	}
	if err != nil {
		return nil, done(answer.Revision)
	}
	return answer, nil
}
