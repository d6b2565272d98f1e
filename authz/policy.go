package authz

import (
	"context"
	"errors"
	"time"

	"github.com/usher-authz/usher/policies"
)

// Policy is a compiled policy in force: the catalogue's index and the prepared
// Rego queries. It is immutable, and shared by all states of the same digest.
type Policy struct{ source policies.PolicyInForce }

// NewPolicy compiles p.
func NewPolicy(ctx context.Context, p policies.PolicyInForce) (*Policy, error) {
	return nil, errors.New("not written yet")
}

// Source is what the policy was compiled from. Do not change it.
func (p *Policy) Source() *policies.PolicyInForce { return &p.source }

// Digest is the digest of the source.
func (p *Policy) Digest() policies.Hash { return p.source.Digest }

// KnowsAction tells whether the catalogue names the action.
func (p *Policy) KnowsAction(name policies.ActionName) bool { return false }

// Effective evaluates data.usher.authz.effective over view at now. Subject is
// taken to be of type account.
func (p *Policy) Effective(ctx context.Context, view View, now time.Time, subject policies.AccountID, resource policies.Resource) (*Effective, error) {
	return nil, errors.New("not written yet")
}

// Decision evaluates data.usher.authz.decision over view at now, explain
// included. Nothing of it is cached.
func (p *Policy) Decision(ctx context.Context, view View, now time.Time, q Question) (Decision, error) {
	return Decision{}, errors.New("not written yet")
}

// Permissions is an [Effective] in the compact form that caches keep and
// decide from without allocation.
type Permissions struct{}

// Compact makes the compact form of e.
func (p *Policy) Compact(e *Effective) (*Permissions, error) {
	return nil, errors.New("not written yet")
}

// Decide is effective + action: the answer to q, whose subject and resource the
// permissions are of, at view's revision. q.Explain is ignored.
func (p *Permissions) Decide(view View, q *Question) Decision { return Decision{} }

// Fresh tells whether the permissions may be used at now: not before they were
// computed, nor after a grant that they rest on ended.
func (p *Permissions) Fresh(now time.Time) bool { return false }
