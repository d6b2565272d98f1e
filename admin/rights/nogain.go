package rights

import (
	"context"
	"errors"
	"time"

	"github.com/usher-authz/usher/admin/difference"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// maxPairs bounds the no-gain rule, which is held under the write's lock.
const maxPairs = 300_000

// Write is a write by a member that has the right to it.
type Write struct {
	Before, After *authz.State
	Objects       []policies.Object // that it touches, all of Owner
	Owner         policies.AccountID
	Account       policies.AccountID // the member's
	Now           time.Time
	// Removing is the member that the write removes, which may take away more.
	Removing policies.CollaborationID
}

var (
	errGives = &policies.ForbiddenError{Reason: "Nobody may give what they do not hold themselves, for as long as they give it."}
	errGains = &policies.ForbiddenError{
		Reason: "Somebody would gain or lose, now or later, what you do not hold yourself, or your own rights would change.",
	}
	errTooMuch = &policies.ForbiddenError{Reason: "This changes more at once than can be held against your rights: ask the owner."}
)

// Check refuses a write that breaks the no-gain rule by a ForbiddenError. Other
// errors are those of Rego.
func (w Write) Check(ctx context.Context) error {
	for _, o := range w.Objects {
		if o.Owner != w.Owner {
			return errGains
		}
	}
	account, ok := w.Before.Account(w.Owner)
	if !ok {
		return errGains
	}
	self, ok := account.MemberOf(w.Account)
	if !ok || self.Status() != policies.StatusActive {
		return errGains
	}
	c := check{Write: w, account: account, self: self, held: difference.NewAsker(w.Before, w.Owner)}
	if err := c.given(ctx); err != nil {
		return err
	}
	return c.results(ctx)
}

type check struct {
	Write

	account *authz.Account
	self    authz.Member // the writer
	held    *difference.Asker
}

// given holds each grant that is made or changed against what the writer has there.
func (c *check) given(ctx context.Context) error {
	for _, o := range c.Objects {
		if o.Kind != policies.KindGrant || o.Deleted() {
			continue
		}
		key, err := policies.ParseGrantKey(o.ID)
		if err != nil {
			return err
		}
		after, ok := c.After.Account(c.Owner)
		if !ok {
			return errGains
		}
		member, ok := after.Member(key.Member)
		if !ok {
			return errGains
		}
		grant, ok := member.Grant(key.Resource)
		if !ok {
			return errGains
		}
		if err := c.covers(ctx, grant); err != nil {
			return err
		}
	}
	return nil
}

// covers refuses a grant whose roles allow more than the writer's on a kind of
// resource that it reaches.
func (c *check) covers(ctx context.Context, grant policies.Grant) error {
	names, err := c.held.Roles(ctx, c.Now, c.lasting(grant.ExpiresAt), grant.Resource)
	if err != nil {
		return err
	}
	var own []policies.RoleID
	for _, name := range names {
		if id, ok := c.account.RoleNamed(name); ok {
			own = append(own, id)
		}
	}
	for _, kind := range reached(grant.Resource.Type) {
		gives, err := c.allows(ctx, grant.Roles, kind)
		if err != nil {
			return err
		}
		holds, err := c.allows(ctx, own, kind)
		if err != nil {
			return err
		}
		if !holds.Has(gives) {
			return errGives
		}
	}
	return nil
}

// lasting gives the writer's grants, but for the roles of those that end before end.
func (c *check) lasting(end *time.Time) func(policies.Resource) (policies.Grant, bool) {
	return func(r policies.Resource) (policies.Grant, bool) {
		g, ok := c.self.Grant(r)
		if g.ExpiresAt != nil && (end == nil || g.ExpiresAt.Before(*end)) {
			g.Roles = nil
		}
		return g, ok
	}
}

// reached are the kinds of resource on which a grant on one of this kind can count.
func reached(kind policies.ResourceType) []policies.ResourceType {
	switch kind {
	case policies.TypeGroups:
		return []policies.ResourceType{policies.TypeGroups, policies.TypeGroup, policies.TypeEnvironment}
	case policies.TypeGroup:
		return []policies.ResourceType{policies.TypeGroup, policies.TypeEnvironment}
	case policies.TypeEnvironments:
		return []policies.ResourceType{policies.TypeEnvironments, policies.TypeEnvironment}
	default:
		return []policies.ResourceType{kind}
	}
}

// allows is what roles allow on a kind of resource.
func (c *check) allows(ctx context.Context, roles []policies.RoleID, kind policies.ResourceType) (difference.Actions, error) {
	r := policies.Resource{Type: kind, ID: authz.Supposed}
	if kind.IsCategory() {
		r.ID = string(c.Owner)
	}
	return c.held.Actions(ctx, c.Now, policies.StatusActive, []policies.Grant{{Resource: r, Roles: roles}}, r)
}

// results holds everything that follows from the write against what the writer has.
func (c *check) results(ctx context.Context) error {
	err := difference.Change{Before: c.Before, After: c.After, Objects: c.Objects}.Each(ctx, difference.Options{
		Now: c.Now, Later: true, Limit: maxPairs,
		Also: func(_ policies.AccountID, r policies.Resource) []time.Time { return c.held.Ends(c.Now, c.self, r) },
		As: func(m authz.Member) policies.Status {
			if m.ID() == c.self.ID() {
				return m.Status()
			}
			return policies.StatusActive
		},
	}, func(d difference.Difference) error { return c.result(ctx, d) })
	var limit *difference.LimitError
	if errors.As(err, &limit) {
		return errTooMuch
	}
	return err
}

func (c *check) result(ctx context.Context, d difference.Difference) error {
	after, ok := c.After.Account(c.Owner)
	if !ok {
		return errGains
	}
	if !c.account.Has(d.Resource) || !after.Has(d.Resource) {
		return nil // made or removed by the write itself
	}
	if d.Member == c.self.ID() {
		return errGains
	}
	held, err := c.held.Member(ctx, d.At, c.self, c.self.Status(), d.Resource)
	if err != nil {
		return err
	}
	if !held.Has(d.Gained) || d.Member != c.Removing && !held.Has(d.Lost) {
		return errGains
	}
	return nil
}
